"""The manifest: labeled clips of recordings, read from any layout of labels and checked row by row.

All faults of all rows are found in one pass and listed in the ledger with their row numbers; rows with a fault are
left out, the others are used.
"""

import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from birdnet_fs.audio.read import AudioCheck, AudioError, check_audio, duration_s
from birdnet_fs.audio.recording_end import PAST_END, cut_at_end, past_end_message
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.installation.resources import n_cpus
from birdnet_fs.core.progress import say, say_once, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats import EVENT_LAYOUTS, FILE_LAYOUTS, LAYOUTS, OWN_LABELS
from birdnet_fs.data.label_formats.cells import label_notes
from birdnet_fs.data.label_formats.detection import detect_layout
from birdnet_fs.data.label_formats.locate import Locator, Place
from birdnet_fs.data.label_formats.manifest_csv import write_clips
from birdnet_fs.data.label_formats.source import Source
from birdnet_fs.data.label_formats.unused import account
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.row_checks import RowChecker
from birdnet_fs.data.row_filter import filter_rows, parse_row_filter
from birdnet_fs.data.tables.columns import is_search_table
from birdnet_fs.schema import Data


@dataclass(frozen=True, slots=True)
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
    source: str = field(default="", compare=False)  # table and row, as "metadata.csv row 12"

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
        layout = detect_layout(source)
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
    table = None if layout in (*EVENT_LAYOUTS, *FILE_LAYOUTS) else source.table_path
    rows = filter_rows(rows, data.where, escaped(table.name if table else source.root))
    locator = Locator(source)
    places = [Place(None) if row.refused else locator.locate(row) for row in rows]
    locator.finish()
    if layout not in FILE_LAYOUTS and not data.where:
        source.notes.extend(_unnamed(source, places))
    checker = RowChecker(source, labeled, classes, data.binary_label, class_names=check)
    found = [checker.check(row, place) for row, place in zip(rows, places, strict=True)]
    n_rows, usable = len(rows), {values.path for values, problems in found if not problems}
    del rows, places
    times = Counter(values.path for values, problems in found if not problems and values.offset_s is not None)
    events = data.multi_label and _are_events(source, layout, several=any(n > 1 for n in times.values()))
    verdicts = _decode(sorted(usable)) if check else {}
    lengths = {path: v.duration_s for path, v in verdicts.items() if isinstance(v, AudioCheck)}
    if events and not check:
        lengths = _lengths(times)
    ledger, clips = Ledger(), list[Clip]()
    account(source, ledger, whole=layout in FILE_LAYOUTS)
    seen: dict[tuple, Any] = {}
    cut: list[tuple[str, str]] = []
    for values, problems in found:
        clip, verdict = Clip(*values), verdicts.get(values.path) if not problems else None
        status, why, seconds, flags = "ok", "", 0.0, ()  # type: tuple[str, str, float, tuple[str, ...]]
        if isinstance(verdict, AudioError):
            problems = (verdict.reason,)
        elif isinstance(verdict, AudioCheck):
            status, why, flags, seconds = verdict.status, verdict.reason, verdict.flags, verdict.duration_s
        length = lengths.get(clip.path) if not problems else None
        if length is not None and (clip.offset_s is not None or clip.onset_s):
            end = cut_at_end(clip.onset_s, clip.offset_s, length)
            problems = (end.problem,) if end.problem else ()
            if end.offset_s != clip.offset_s:
                clip = replace(clip, offset_s=end.offset_s)
            if end.reason and not end.problem:
                status, why, flags = "partial", f"{why} {end.reason}".strip(), (*flags, PAST_END)
                cut.append((clip.source, end.reason))
        problems = problems or _repeated(clip, seen, data.multi_label)
        if problems:
            status, why = "quarantined", " ".join(problems)
        else:
            clips.append(clip)
        ledger.add(clip.path, status, why, flags, seconds, clip.source)
    if not clips:
        raise UserError(f"None of the {n_rows} rows can be used. {ledger.summary()}")
    source.notes.extend(filter(None, [past_end_message(cut)]))
    counts = Counter(label for clip in clips for label in clip.labels)
    names = tuple(classes) if classes is not None else tuple(sorted(counts))
    if labeled:
        source.notes.extend(label_notes(counts, checker.decomposed, table=layout not in FILE_LAYOUTS))
    return Manifest(tuple(clips), names, ledger, source.root, events, lengths, layout, tuple(source.notes))


def _are_events(source: Source, layout: str, *, several: bool) -> bool:
    """Whether rows with times are events of recordings that are annotated from start to end."""
    if source.data.timed_rows != "auto":
        return source.data.timed_rows == "events" and layout not in FILE_LAYOUTS
    if layout in EVENT_LAYOUTS:
        return True
    searched = layout not in FILE_LAYOUTS and source.table is not None and is_search_table(source.table.columns)
    return several and not searched


def _unnamed(source: Source, places: Sequence[Place]) -> list[str]:
    """A remark on audio files that no row names."""
    named = {place.path for place in places}
    left = [path for path in source.audio_files if path not in named]
    shown = escaped(source.index.relative(str(left[0]))) if left else ""
    return [f"Audio files that no row names: {len(left)} (the first: {shown})."] if left else []


def _decode(paths: list[Path]) -> dict[Path, AudioCheck | AudioError]:
    def one(path: Path) -> AudioCheck | AudioError:
        try:
            return check_audio(path)
        except AudioError as error:
            return error

    with ThreadPoolExecutor(min(4, n_cpus())) as pool:
        results = track(pool.map(one, paths), "Checking recordings", total=len(paths), unit="file")
        return dict(zip(paths, results, strict=True))


def _lengths(paths: Iterable[Path]) -> dict[Path, float]:
    """Lengths in seconds from verified headers; recordings that cannot be read are left to their reader."""
    found = {}
    for path in paths:
        try:
            found[path] = _length(path, path.stat().st_size, path.stat().st_mtime_ns)
        except (AudioError, OSError):
            continue
    return found


@functools.lru_cache(1 << 16)
def _length(path: Path, size: int, changed_ns: int) -> float:
    """Length of a recording, kept while the file does not change."""
    return duration_s(path)


def _repeated(clip: Clip, seen: dict, multi_label: bool) -> tuple[str, ...]:
    """The problem of a clip that occurred before, if any; the first of them is used."""
    key = (clip.path, clip.onset_s, clip.offset_s)
    first = seen.setdefault(key, clip)
    if first is clip:
        return ()
    others: list[Clip] = seen.setdefault((key, ""), [first])
    same = next((other for other in others if other.labels == clip.labels), None)
    if same is not None:
        return (f"it repeats {same.source}.",)
    if not multi_label:
        return (f"it gives the clip of {first.source} another label; set data.multi_label=true for several labels.",)
    others.append(clip)
    return ()


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write the clips as manifest.csv, atomically; `read_manifest` with the layout "manifest" returns equal clips.

    Paths of audio below the table's folder are relative to it, other paths are absolute.
    """
    write_clips(manifest.clips, Path(os.path.abspath(path)))
