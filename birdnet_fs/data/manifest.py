"""The manifest: labeled clips of recordings, read from any layout of labels, checked row by row.

Every fault of every row is found in one pass and stands in the ledger with its row number; rows with a fault
are left out, the others are used.
"""

import csv
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from birdnet_fs.audio.read import AudioCheck, AudioError, check_audio, duration_s
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats import EVENT_LAYOUTS, FILE_LAYOUTS, LAYOUTS, OWN_LABELS
from birdnet_fs.data.label_formats.manifest_csv import COLUMNS
from birdnet_fs.data.label_formats.source import Row, Source, labels_of
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.row_filter import check_columns, parse_row_filter, row_matches
from birdnet_fs.schema import Data


@dataclass(frozen=True)
class Clip:
    """A labeled excerpt of a recording, or a whole recording."""

    path: Path  # absolute
    onset_s: float = 0.0
    offset_s: float | None = None  # None = to the end of the recording
    labels: tuple[str, ...] = ()  # first = primary; () = nothing called
    secondary: tuple[str, ...] = ()
    group: str = ""  # clips of one group never sit on both sides of a split
    fold: int | None = None
    split: str = ""
    row: Mapping[str, str] = field(default_factory=dict)  # the table's other cells that are not empty
    fingerprint: str = ""  # of the recording's samples (copies.py); "" = not computed, or unknown

    @property
    def recording_group(self) -> str:
        """What the clip must not share with a clip on another side of a split: its group, else its recording."""
        return self.group or str(self.path)


@dataclass(frozen=True)
class Manifest:
    """Clips, their classes and how every input row ended."""

    clips: tuple[Clip, ...]
    classes: tuple[str, ...]  # sorted
    ledger: Ledger
    root: Path
    events: bool = False  # clips are timed events in recordings that are annotated throughout
    durations: Mapping[Path, float] = field(default_factory=dict)  # decoded seconds, of files that were checked
    layout: str = ""
    notes: tuple[str, ...] = ()

    def recording_s(self, path: Path) -> float:
        """Length of a recording in seconds: decoded when it was checked, else verified from its header.

        Raises:
            AudioError: It cannot be read.
        """
        return self.durations.get(path) or duration_s(path)

    def hours_per_class(self) -> dict[str, float]:
        """Hours of clips per class, classes sorted; "" holds the clips in which nothing is called."""
        seconds: dict[str, float] = {}
        lengths: dict[Path, float] = {}
        for clip in self.clips:
            end = clip.offset_s
            if end is None:
                if clip.path not in lengths:
                    try:
                        lengths[clip.path] = self.recording_s(clip.path)
                    except AudioError:
                        lengths[clip.path] = clip.onset_s
                end = lengths[clip.path]
            for label in clip.labels or ("",):
                seconds[label] = seconds.get(label, 0.0) + max(0.0, end - clip.onset_s)
        return {label: seconds[label] / 3600 for label in sorted(seconds)}


def read_manifest(data: Data, *, check: bool = False, classes: Sequence[str] | None = None) -> Manifest:
    """Read the clips that `data` describes.

    Args:
        data: Settings; `layout="auto"` looks for one (formats/__init__.py holds the table of layouts).
        check: Decode every file once, for its verdict and true length (slow); else only the file's existence
            is looked at, and damage shows when the file is read.
        classes: The only labels allowed, in their order; None = whatever the data hold, sorted.

    Rows with a fault (missing or empty file, no label, unknown label, duplicate, impossible times) are left out
    and stand in the ledger.

    Raises:
        UserError: No folder, table or column of that name, no rows chosen, or no usable row.
    """
    manifest = _read(data, check, classes, labeled=True)
    if manifest.ledger.counts()["quarantined"]:
        say(manifest.ledger.summary())
    if data.binary_label and all(clip.labels for clip in manifest.clips):
        say(
            f"data.binary_label={data.binary_label}: every clip has a label and none is without, so nothing tells "
            "calls from noise; label clips with none noise, or put them in a folder of that name."
        )
    return manifest


def read_background(data: Data, *, check: bool = False) -> Manifest:
    """The clips that `data.background` chooses, without labels; none when it is not set.

    It names rows of the table, or a folder (from `data.root`) all of whose recordings are meant.

    Raises:
        UserError: As `read_manifest`.
    """
    if not data.background:
        return Manifest((), (), Ledger(), _root(data))
    folder = _root(data) / data.background
    if folder.is_dir():
        whole = Data(root=str(folder), layout="folders", multi_label=True)
        return _read(whole, check, None, labeled=False)
    parse_row_filter(data.background, "data.background, which is no folder in data.root,")
    return _read(replace(data, where=data.background), check, None, labeled=False)


def _root(data: Data) -> Path:
    root = Path(os.path.abspath(data.root))
    if not root.is_dir():
        raise UserError(
            f"data.root must be a folder that exists; give data.root=FOLDER. Received: {escaped(data.root)!r}"
        )
    if not (root / data.audio).is_dir():
        here = [entry.name for entry in os.scandir(root) if entry.is_dir()]
        hint = nearest(data.audio, here)
        raise UserError(f"data.audio must be a folder in {escaped(root)}.{hint} Received: {data.audio!r}")
    return root


def _read(data: Data, check: bool, classes: Sequence[str] | None, labeled: bool) -> Manifest:
    source = Source(data, _root(data))
    layout: str = data.layout
    if layout == "auto":
        layout = next((name for name, module in LAYOUTS.items() if module.matches(source)), "")
        if not layout:
            raise UserError(
                f"No labeled recordings were found in {escaped(source.root)}: one folder of audio files for each "
                "class was expected, or a table; set data.table or data.audio where it has them elsewhere."
            )
        if layout in FILE_LAYOUTS and data.table:
            raise UserError(
                f"data.table must be a table of labels, or a folder of such (CSV with a column that names the audio, "
                f"Raven, Audacity). Received: {escaped(data.table)!r}"
            )
    if layout in OWN_LABELS and data.label_column != Data.label_column:
        source.notes.append(
            f"data.label_column={data.label_column} is not used: layout {layout} says where labels are."
        )
    rows = _chosen_rows(list(LAYOUTS[layout].read(source)), source, layout)
    places = [_locate_file(source, row) for row in rows]
    verdicts = _decode(sorted({path for path, reason in places if path and not reason})) if check else {}
    ledger, clips = Ledger(), list[Clip]()
    seen: dict[tuple, str] = {}
    for row, (path, reason) in zip(rows, places, strict=True):
        clip, problems = _clip(source, row, path or Path(row.path or row.stem), labeled, classes, data.binary_label)
        problems = [reason, *problems] if reason else problems
        verdict = verdicts.get(clip.path) if not reason else None
        if isinstance(verdict, AudioError):
            problems.insert(0, verdict.reason)
        elif isinstance(verdict, AudioCheck) and clip.onset_s >= verdict.duration_s:
            problems.append(f"it starts at {clip.onset_s:g} s; the recording ends at {verdict.duration_s:.3f} s.")
        if not problems:
            problems += _repeated(clip, row, seen, data.multi_label)
        status, why, seconds = "ok", "", 0.0
        flags: tuple[str, ...] = ()
        if isinstance(verdict, AudioCheck):
            status, why, flags, seconds = verdict.status, verdict.reason, verdict.flags, verdict.duration_s
        if problems:
            status, why = "quarantined", " ".join(problems)
        else:
            clips.append(clip)
        ledger.add(clip.path, status, why, flags, seconds, row.source)
    if not clips:
        raise UserError(f"None of the {len(rows)} rows can be used. {ledger.summary()}")
    found = sorted({label for clip in clips for label in clip.labels})
    times = Counter(clip.path for clip in clips if clip.offset_s is not None)
    events = data.multi_label and (layout in EVENT_LAYOUTS or any(n > 1 for n in times.values()))
    lengths = {path: v.duration_s for path, v in verdicts.items() if isinstance(v, AudioCheck)}
    names = tuple(classes) if classes is not None else tuple(found)
    return Manifest(tuple(clips), names, ledger, source.root, events, lengths, layout, tuple(source.notes))


def _chosen_rows(rows: list[Row], source: Source, layout: str) -> list[Row]:
    """The rows that data.where chooses."""
    conditions = parse_row_filter(source.data.where)
    if not rows:
        raise UserError(
            f"No labeled recordings were found in {escaped(source.root)} as data.layout={layout}; "
            "data.layout=auto looks for the others."
        )
    if not conditions:
        return rows
    cells = [_cells(row) for row in rows]
    name = escaped(source.table_path.name if source.table_path and layout not in EVENT_LAYOUTS else source.root)
    check_columns(conditions, dict.fromkeys(column for each in cells for column in each), name)
    chosen = [row for row, each in zip(rows, cells, strict=True) if row_matches(conditions, each)]
    if not chosen:
        there = "; ".join(
            f"{column} has {', '.join(sorted({each.get(column, '') for each in cells})[:12])}" for column in conditions
        )
        raise UserError(f"data.where={source.data.where} chooses none of the {len(rows)} rows of {name}: {there}.")
    return chosen


def _cells(row: Row) -> dict[str, str]:
    primary = row.labels[0] if row.labels else ""
    return {"label": primary, "group": row.group, "fold": row.fold, "split": row.split, **row.cells}


def _locate_file(source: Source, row: Row) -> tuple[Path | None, str]:
    """The audio of a row, or why there is none."""
    name = row.path.replace("\\", "/") if os.sep == "/" else row.path
    if not row.path and not row.stem:
        return None, "the row names no audio file."
    if name:
        tops = [source.audio_root, source.root, *([Path(row.beside)] if row.beside else [])]
        if source.table_path:
            tops.append(source.table_path.parent)
        for candidate in dict.fromkeys((row.path, name)):
            for top in tops:
                path = Path(os.path.normpath(top / candidate))
                if (problem := _file_problem(path)) != "missing":
                    return path, problem
        raw = _as_bytes_name(name)
        if raw and os.path.isfile(source.audio_root / raw):
            return source.audio_root / raw, ""
        parts = Path(name).parts
        found = [p for p in source.by_name.get(parts[-1], []) if p.parts[-len(parts) :] == parts]
        found = found or source.by_name.get(parts[-1], []) or source.by_stem.get(parts[-1], [])
    else:
        found = source.by_stem.get(row.stem, [])
        found = [p for p in found if str(p.parent) == row.beside] or found
    if len(found) == 1:
        return found[0], _file_problem(found[0])
    shown = escaped(name or row.stem)
    if found:
        return None, f"{len(found)} audio files are called {shown}; name the folder too."
    return None, f"no audio file {shown} was found."


def _file_problem(path: Path) -> str:
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError):
        return "missing"
    if os.path.isdir(path):
        return "this is a folder, not an audio file."
    return "" if size else "the file is empty (0 bytes)."


def _as_bytes_name(name: str) -> str:
    """The name as a file system holds it that was written in Windows-1252."""
    try:
        return "" if name.isascii() else os.fsdecode(name.encode("cp1252"))
    except UnicodeError:
        return ""


def _decode(paths: list[Path]) -> dict[Path, AudioCheck | AudioError]:
    def one(path: Path) -> AudioCheck | AudioError:
        try:
            return check_audio(path)
        except AudioError as error:
            return error

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        results = track(pool.map(one, paths), "Checking recordings", total=len(paths), unit="file")
        return dict(zip(paths, results, strict=True))


def _clip(
    source: Source, row: Row, path: Path, labeled: bool, classes: Sequence[str] | None, binary_label: str = ""
) -> tuple[Clip, list[str]]:
    """The clip of a row and everything that is wrong with the row."""
    problems: list[str] = []
    onset = _seconds(row.onset, "onset", problems)
    offset = _seconds(row.offset, "offset", problems)
    if offset is not None and not problems and offset <= (onset or 0.0):
        problems.append(f"its end ({row.offset} s) must lie behind its start ({row.onset or 0} s).")
    fold = None
    if row.fold:
        try:
            fold = int(float(row.fold))
        except (ValueError, OverflowError):
            problems.append(f"its fold must be a whole number. Received: {row.fold!r}.")
    labels = row.labels if labeled else ()
    if labeled and row.labeled and not labels:
        problems.append("its label is empty.")
    secondary = row.secondary
    if binary_label:
        labels, secondary = (binary_label,) if labels else (), ()
    if classes is not None:
        unknown = [label for label in labels if label not in classes]
        problems += [f"label {label!r} is not one of the classes.{nearest(label, classes)}" for label in unknown]
    absolute = os.path.abspath(path) if path.is_absolute() else os.path.join(source.audio_root, path)
    group = row.group or os.path.relpath(absolute, source.root).replace(os.sep, "/")
    extra = {name: value for name, value in row.cells.items() if value}
    clip = Clip(Path(absolute), onset or 0.0, offset, labels, secondary, group, fold, row.split, extra)
    return clip, problems


def _seconds(text: str, name: str, problems: list[str]) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        problems.append(f"its {name} must be seconds, 0 or more. Received: {text!r}.")
        return None
    return value


def _repeated(clip: Clip, row: Row, seen: dict, multi_label: bool) -> list[str]:
    """Whether the clip stands in the data already; the first one stays."""
    key = (clip.path, clip.onset_s, clip.offset_s)
    same = (*key, clip.labels)
    if same in seen:
        return [f"it repeats {seen[same]}."]
    if not multi_label and key in seen:
        return [f"it gives the clip of {seen[key]} another label; set data.multi_label=true for several labels."]
    seen.setdefault(key, row.source)
    seen[same] = row.source
    return []


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write the clips as manifest.csv, atomically; `read_manifest` with the layout "manifest" gives the same clips.

    Audio below the table's folder is named relative to it, other audio by its absolute path.
    """
    path = Path(os.path.abspath(path))
    extra = list(dict.fromkeys(name for clip in manifest.clips for name in clip.row))
    with (
        atomic_path(path) as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *(f"row.{name}" for name in extra)])
        for clip in manifest.clips:
            inside = clip.path.is_relative_to(path.parent)
            writer.writerow(
                [
                    (clip.path.relative_to(path.parent) if inside else clip.path).as_posix(),
                    repr(clip.onset_s),
                    "" if clip.offset_s is None else repr(clip.offset_s),
                    *(_label_cell(labels) for labels in (clip.labels, clip.secondary)),
                    clip.group,
                    "" if clip.fold is None else clip.fold,
                    clip.split,
                    *(clip.row.get(name, "") for name in extra),
                ]
            )


def _label_cell(labels: Iterable[str]) -> str:
    labels = tuple(labels)
    plain = ";".join(labels)
    return plain if labels_of(plain) == labels else repr(list(labels))
