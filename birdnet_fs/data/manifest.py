"""The manifest: labeled clips of recordings, read from any layout of labels and checked row by row.

All faults of all rows are found in one pass and listed in the ledger with their row numbers; rows with a fault are
left out, the others are used.
"""

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from birdnet_fs.audio.read import AudioCheck, AudioError, check_audio, duration_s
from birdnet_fs.core.class_names import class_name_problem
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.progress import say, say_once, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats import EVENT_LAYOUTS, FILE_LAYOUTS, LAYOUTS, OWN_LABELS
from birdnet_fs.data.label_formats.cells import label_notes
from birdnet_fs.data.label_formats.locate import locate_audio
from birdnet_fs.data.label_formats.manifest_csv import write_clips
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.data.label_formats.unused import account, other_files
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.row_filter import filter_rows, parse_row_filter
from birdnet_fs.schema import Data


@dataclass(frozen=True)
class Clip:
    """A labeled excerpt of a recording, or a whole recording."""

    path: Path  # absolute
    onset_s: float = 0.0
    offset_s: float | None = None  # None = to the end of the recording
    labels: tuple[str, ...] = ()  # the first is the primary label; () = no class is present
    secondary: tuple[str, ...] = ()
    group: str = ""  # clips of one group are always on the same side of a split
    fold: int | None = None
    split: str = ""
    row: Mapping[str, str] = field(default_factory=dict)  # column -> cell of the table, empty cells left out
    fingerprint: str = ""  # of the recording (copies.py); "" = not computed, or unknown
    unknown: tuple[str, ...] = ()  # classes that may be present or absent: neither positive nor negative examples

    @property
    def recording_group(self) -> str:
        """Group that must be on one side of a split: the clip's group, else its recording."""
        return self.group or str(self.path)


@dataclass(frozen=True)
class Manifest:
    """Clips, their classes and the outcome of every input row."""

    clips: tuple[Clip, ...]
    classes: tuple[str, ...]  # sorted
    ledger: Ledger
    root: Path
    events: bool = False  # clips are timed events in recordings that are annotated from start to end
    durations: Mapping[Path, float] = field(default_factory=dict)  # decoded seconds of the files that were checked
    layout: str = ""  # a key of LAYOUTS
    notes: tuple[str, ...] = ()  # remarks for the user

    def recording_s(self, path: Path) -> float:
        """Length of a recording in seconds: decoded when it was checked, else verified from its header.

        `AudioError` is raised when it cannot be read.
        """
        return self.durations.get(path) or duration_s(path)

    def hours_per_class(self) -> dict[str, float]:
        """Hours of clips per class, classes sorted; the key "" holds clips without a label."""
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

    Rows with a fault (missing or empty file, no label, unknown label, duplicate, impossible times) are left out and
    listed in the ledger. `UserError` is raised when a folder, table or column does not exist, when `data.where`
    selects no row, and when no row can be used.

    Args:
        data: Settings; `layout="auto"` detects the layout (label_formats.LAYOUTS).
        check: Whether to decode every file for its status and true length (slow). By default only the existence of
            a file is checked, and damage is found when the file is read.
        classes: The only labels allowed, in model order. Default: all labels of the data, sorted.

    Returns:
        The clips and the ledger of all rows.
    """
    manifest = _read(data, check, classes, labeled=True)
    for note in () if check else manifest.notes:
        say_once(f"Note: {note}")
    if manifest.ledger.counts()["quarantined"]:
        say(manifest.ledger.summary())
    if data.binary_label and all(clip.labels for clip in manifest.clips):
        say(
            f"data.binary_label={data.binary_label}: every clip has a label, so there are no negative examples; "
            "give clips without calls the label noise, or put them in a folder named noise."
        )
    return manifest


def read_background(data: Data, *, check: bool = False) -> Manifest:
    """Read the recordings that `data.background` names, without labels; none when it is not set.

    The setting selects rows of the table, or names a folder below `data.root` whose recordings are all used.
    `UserError` is raised as in `read_manifest`.
    """
    if not data.background:
        return Manifest((), (), Ledger(), _root(data))
    folder = _root(data) / data.background
    if folder.is_dir():
        whole = Data(root=str(folder), layout="folders", multi_label=True)
        return _read(whole, check, None, labeled=False)
    parse_row_filter(data.background, "data.background, which is not a folder in data.root,")
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
                f"No labeled recordings were found in {escaped(source.root)}: one folder of audio files per class, or "
                f"a table, was expected; set data.table or data.audio when they are elsewhere.{other_files(source)}"
            )
        if layout in FILE_LAYOUTS and data.table:
            raise UserError(
                f"data.table must be a table of labels or a folder of such tables (CSV with a column that names the "
                f"audio, Raven, Audacity). Received: {escaped(data.table)!r}"
            )
    if layout in OWN_LABELS and data.label_column != Data.label_column:
        source.notes.append(
            f"data.label_column={data.label_column} is not used: in layout {layout} labels have a fixed place."
        )
    rows = list(LAYOUTS[layout].read(source))
    if not rows:
        raise UserError(
            f"No labeled recordings were found in {escaped(source.root)} as data.layout={layout}; "
            "set data.layout=auto to detect the layout."
        )
    table = source.table_path if source.table_path and layout not in EVENT_LAYOUTS else None
    rows = filter_rows(rows, data.where, escaped(table.name if table else source.root))
    places = [locate_audio(source, row) for row in rows]
    verdicts = _decode(sorted({path for path, reason in places if path and not reason})) if check else {}
    ledger, clips = Ledger(), list[Clip]()
    account(source, ledger, whole=layout in FILE_LAYOUTS)
    seen: dict[tuple, str] = {}
    for row, (path, reason) in zip(rows, places, strict=True):
        clip, problems = _clip(source, row, path or Path(row.path or row.stem), labeled, classes, data.binary_label)
        problems = [reason, *problems] if reason else problems
        if check:  # training refuses such names, so that no class is left out unseen
            wrong = {name: class_name_problem(name) for name in clip.labels}
            problems += [f"its label {name!a} cannot be a class name: it {why}." for name, why in wrong.items() if why]
        verdict = verdicts.get(clip.path) if not reason else None
        if isinstance(verdict, AudioError):
            problems.insert(0, verdict.reason)
        elif isinstance(verdict, AudioCheck) and clip.onset_s >= verdict.duration_s:
            problems.append(f"it starts at {clip.onset_s:g} s, but the recording ends at {verdict.duration_s:.3f} s.")
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
    if labeled:
        counts = Counter(label for clip in clips for label in clip.labels)
        source.notes.extend(label_notes(counts, table=layout not in FILE_LAYOUTS))
    return Manifest(tuple(clips), names, ledger, source.root, events, lengths, layout, tuple(source.notes))


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
    source: Source, row: LabelRow, path: Path, labeled: bool, classes: Sequence[str] | None, binary_label: str = ""
) -> tuple[Clip, list[str]]:
    """The clip of a row and all problems of the row."""
    problems: list[str] = []
    onset = _seconds(row.onset, "onset", problems)
    offset = _seconds(row.offset, "offset", problems)
    if offset is not None and not problems and offset <= (onset or 0.0):
        problems.append(f"its end ({row.offset} s) must be later than its start ({row.onset or 0} s).")
    fold = None
    if row.fold:
        try:
            fold = int(float(row.fold))
        except (ValueError, OverflowError):
            problems.append(f"its fold must be a whole number. Received: {row.fold!r}.")
    labels = row.labels if labeled else ()
    if labeled and row.labeled and not labels:
        problems.append(row.problem or "its label is empty.")
    secondary = row.secondary
    unknown = tuple(label for label in row.unknown if label not in labels)
    if binary_label:
        labels, secondary = (binary_label,) if labels else (), ()
        unknown = (binary_label,) if unknown and not labels else ()
    if classes is not None:
        others = [label for label in labels if label not in classes]
        problems += [f"label {label!r} is not one of the classes.{nearest(label, classes)}" for label in others]
    absolute = os.path.abspath(path) if path.is_absolute() else os.path.join(source.audio_root, path)
    group = row.group or os.path.relpath(absolute, source.root).replace(os.sep, "/")
    extra = {name: value for name, value in row.cells.items() if value}
    clip = Clip(Path(absolute), onset or 0.0, offset, labels, secondary, group, fold, row.split, extra, unknown=unknown)
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


def _repeated(clip: Clip, row: LabelRow, seen: dict, multi_label: bool) -> list[str]:
    """The problem of a clip that occurred before, if any; the first of them is used."""
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
    """Write the clips as manifest.csv, atomically; `read_manifest` with the layout "manifest" returns equal clips.

    Paths of audio below the table's folder are relative to it, other paths are absolute.
    """
    write_clips(manifest.clips, Path(os.path.abspath(path)))
