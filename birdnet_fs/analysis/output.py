"""The output folder of an analysis: the tables of every recording, which are finished, and which may be replaced.

The folder may hold the tables of earlier calls. What their stamps (resume.py) prove to be written by this program
and unchanged is replaced or removed; everything else stays and is named. Detections are also stored with full precision
beside the stamps, so that tables of other formats, and those over all recordings, need no scoring.
"""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from birdnet_fs.analysis import resume
from birdnet_fs.analysis import table_formats as formats
from birdnet_fs.analysis.combined.options import DEFAULT_TABLES, TableOptions
from birdnet_fs.analysis.combined.stored import SUFFIX, read_stored, render_stored
from birdnet_fs.analysis.combined.write import FinishedRecording, write_combined
from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.inputs import table_stems
from birdnet_fs.analysis.resume import Content, NotOursError, Outcome, Stamp
from birdnet_fs.analysis.two_stage.log import SUFFIX as LOG_SUFFIX
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import COLUMNS, Ledger

LEDGER = "ledger.csv"
NOT_REPLACED = "table_not_replaced"  # flag in the ledger: a table that is not ours is in the way of a new one
_MAX_NAMED = 5
_LOG = "log"  # key of Place.tables for prediction logs, beside the keys of formats


@dataclass(frozen=True)
class Place:
    """Files of the tables of one recording.

    Attributes:
        recording: The recording.
        content: Size, modification time and hashes of both ends of the recording; None when it cannot be read.
        problem: Reason for a recording that cannot be read; "" otherwise.
        stamp: File of its stamp.
        tables: Key of the format -> path in the output folder.
        stored: Path of the stored detections in the output folder.
        superseded: Stamps of its tables under another name.
    """

    recording: Path
    content: Content | None
    problem: str
    stamp: Path
    tables: Mapping[str, str]
    stored: str
    superseded: tuple[Path, ...] = ()


@dataclass
class OutputFolder:
    """The output folder.

    Args:
        folder: The folder, which need not exist.
        root: Folder of the recordings.
        formats: Keys of `table_formats.FORMATS`.
        settings: Hash of the settings and the model.
        overwrite: Whether tables are replaced whoever has written them.
        options: Tables over all recordings, and the style of all tables. Default: detections.csv and the summaries,
            absolute paths, 4 decimals.
        with_log: Whether every recording has a prediction log of ANIMAL-SPOT. Default: False.
    """

    folder: Path
    root: Path
    formats: Sequence[str]
    settings: str
    overwrite: bool
    options: TableOptions = DEFAULT_TABLES
    with_log: bool = False
    changed: list[str] = field(default_factory=list)
    edited: list[str] = field(default_factory=list)
    not_replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)

    def places(self, recordings: Sequence[Path], contents: Mapping[Path, Content] | None = None) -> list[Place]:
        """Find the places of the tables of recordings.

        Args:
            recordings: Absolute paths below the root.
            contents: Content of recordings that are not read again. Default: None, all are read.

        Returns:
            One place for each recording, in their order.

        Raises:
            UserError: The folder holds tables of other recordings of the same names.
        """
        stems = table_stems(recordings, self.root)
        found, taken = [], []
        for recording in recordings:
            place = self._place(recording, stems[recording], contents)
            owner = self._other_owner(place)
            if owner and Path(owner).name != recording.name:
                place = self._place(recording, recording.name, contents)  # a.flac beside the table of a.wav
                owner = self._other_owner(place)
            if owner:
                taken.append((owner, recording))
            found.append(place)
        if taken and not self.overwrite:
            old, new = taken[0]
            raise UserError(
                f"{escaped(self.folder)} holds the tables of {len(taken)} other recordings with the names of these "
                f"(the first: the table of {escaped(new)} would replace that of {escaped(old)}); give another folder "
                "with -o, give all folders of recordings in one command, or replace the tables with --overwrite."
            )
        return found

    def _place(self, recording: Path, stem: str, contents: Mapping[Path, Content] | None) -> Place:
        try:
            content, problem = (contents or {}).get(recording) or Content.of(recording), ""
        except OSError as error:
            content, problem = None, f"cannot be read ({error.strerror or error})"
        parent = recording.relative_to(self.root).parent
        others = {recording.stem, recording.name} - {stem}
        old = [resume.stamp_path(self.folder, os.fspath(parent / other)) for other in others]
        stamp = resume.stamp_path(self.folder, os.fspath(parent / stem))
        return Place(
            recording,
            content,
            problem,
            stamp,
            {name: os.fspath(parent / (stem + suffix)) for name, suffix in self._suffixes().items()},
            _stored_beside(stamp),
            tuple(path for path in old if path.is_file()),
        )

    def _suffixes(self) -> dict[str, str]:
        """Suffix of the tables of a recording by key of `Place.tables`."""
        suffixes = {name: formats.FORMATS[name].suffix for name in self.formats}
        return {**suffixes, _LOG: LOG_SUFFIX} if self.with_log else suffixes

    def _other_owner(self, place: Place) -> str:
        """The path of another recording whose tables exist at a place; "" when there is none."""
        stamp = resume.read_stamp(place.stamp)
        if stamp is None or place.content is None or stamp.content.is_of(place.content):
            return ""
        return stamp.content.path if any((self.folder / table).is_file() for table in stamp.tables) else ""

    def finished(self, place: Place) -> Outcome | None:
        """The outcome of a recording that needs no scores; tables of another format or style are written.

        Args:
            place: Files of the tables of the recording.

        Returns:
            The outcome, with the flag NOT_REPLACED when its tables are known not to be ours; None when it must be
            scored.
        """
        stamp = resume.read_stamp(place.stamp)
        if self.overwrite or stamp is None or place.content is None:
            return None
        tables = list(place.tables.values())
        changed = [t for t in tables if (self.folder / t).is_file() and not stamp.wrote(self.folder, t)]
        stored = self._stored(place.stamp, stamp)
        if stored and stamp.is_finished(place.content, os.fspath(self.root), self.key, tables, self.folder):
            self.edited += changed
            return stamp.outcome
        if changed:
            self.not_replaced += changed
            return replace(stamp.outcome, flags=(*stamp.outcome.flags, NOT_REPLACED))
        scored_with = (stamp.content, stamp.root, stamp.settings.split()[:1])
        if stored and scored_with == (place.content, os.fspath(self.root), [self.settings]):
            return self.write(place, stored, stamp.outcome)
        if stamp.content.samples != place.content.samples:
            self.changed.append(os.fspath(place.recording))
        return None

    def write(self, place: Place, scored: RecordingDetections, outcome: Outcome) -> Outcome:
        """Write the tables of a recording.

        Args:
            place: Files of the tables of the recording, whose `content` was read.
            scored: Detections of the recording.
            outcome: Outcome of the recording.

        Returns:
            The outcome, with the flag NOT_REPLACED when a table that is not ours is in the way.
        """
        if place.content is None:
            raise ValueError("the recording of the place was not read")
        styled = replace(scored, style=self.options.style)
        texts = {
            table: scored.log if name == _LOG else formats.FORMATS[name].render(styled)
            for name, table in place.tables.items()
        }
        texts[place.stored] = render_stored(scored)
        stamp = Stamp(place.content, os.fspath(self.root), self.key, outcome, {})
        before = resume.read_stamp(place.stamp)
        if before is None or not before.wrote(self.folder, place.stored):
            (self.folder / place.stored).unlink(missing_ok=True)  # nobody edits these
        try:
            done = resume.write_tables(self.folder, place.stamp, stamp, texts, overwrite=self.overwrite)
        except NotOursError as error:
            self.not_replaced.append(error.table)
            return replace(outcome, flags=(*outcome.flags, NOT_REPLACED))
        self._count(*done)
        for old in place.superseded:
            before = resume.read_stamp(old)
            if before and before.content.path == place.content.path:
                self._count(*resume.remove_tables(self.folder, before.tables))
                old.unlink()
        return outcome

    def _count(self, removed: Sequence[str], outdated: Sequence[str]) -> None:
        self.removed += [name for name in removed if not _is_stored(name)]
        self.outdated += [name for name in outdated if not _is_stored(name)]

    @property
    def key(self) -> str:
        """Key of the tables: hash of the settings and the model, and the style where it is not the default."""
        style = self.options.style
        words = ["relative"] * style.relative_paths + ["full"] * style.full_precision
        return " ".join([self.settings, *words])

    def _stored(self, place: Path, stamp: Stamp) -> RecordingDetections | None:
        """The stored detections of a stamp; None where they are missing or not as they were written."""
        name = _stored_beside(place)
        if not stamp.wrote(self.folder, name):
            return None
        return read_stored(self.folder / name, Path(stamp.content.path), Path(stamp.root))

    def write_combined(self, places: Sequence[Place], ledger: Ledger) -> None:
        """Write the tables over all recordings: those of this call, and unchanged ones of earlier calls.

        Args:
            places: The places of this call.
            ledger: Outcomes of this call; quarantined recordings and those whose tables were not replaced are left out.
        """
        if self.options.combined:
            write_combined(self.folder, self._finished(places, ledger), self.options)

    def _finished(self, places: Sequence[Place], ledger: Ledger) -> Iterator[FinishedRecording]:
        out = {row.path for row in ledger.rows if row.status == "quarantined" or NOT_REPLACED in row.flags}
        own = {place.stamp.name: str(place.recording) in out for place in places}
        found, done = {os.fspath(place.recording) for place in places}, self.folder / resume.DONE
        stamps: list[tuple[bytes, Path]] = []
        for name in os.listdir(done) if done.is_dir() else ():
            stamp = resume.read_stamp(done / name) if name.endswith(".json") else None
            if stamp is None or stamp.settings != self.key or own.get(name):
                continue
            if name in own or (stamp.content.path not in found and _is_unchanged(stamp.content)):
                stamps.append((os.fsencode(stamp.content.path), done / name))
        for _, path in sorted(stamps):
            stamp = resume.read_stamp(path)
            stored = stamp and self._stored(path, stamp)
            if stamp and stored:
                yield FinishedRecording(replace(stored, style=self.options.style), stamp.outcome)

    def write_ledger(self, ledger: Ledger) -> None:
        """Write ledger.csv: the rows of this call, then those of earlier recordings, whose tables are still there."""
        whole = Ledger()
        whole.rows = [*ledger.rows]
        known = {escaped(row.path) for row in ledger.rows}
        for row in _rows(self.folder / LEDGER):
            if row["path"] not in known:
                flags = [flag for flag in row["flags"].split(";") if flag]
                whole.add(row["path"], row["status"], row["reason"], flags, float(row["duration_s"]), row["source"])
        whole.write(self.folder / LEDGER)

    def report(self, places: Sequence[Place]) -> None:
        """Print what was kept, removed and not replaced, by name."""
        folder = escaped(self.folder)
        for tables, sentence in (
            (self.changed, "recordings have changed since their tables were written, which were replaced: {}."),
            (self.edited, "tables were changed since they were written, and are kept as they are: {}."),
            (self.removed, "tables of earlier formats, names or settings were removed: {}."),
            (self.outdated, "tables of earlier formats, names or settings were changed since, and stay: {}."),
            (
                self.not_replaced,
                "tables were not replaced, because they were changed since they were written, or were not written by "
                "this command: {}; give another folder with -o, or replace them with --overwrite.",
            ),
        ):
            if tables:
                more = f" and {len(tables) - _MAX_NAMED} more" if len(tables) > _MAX_NAMED else ""
                say(f"{folder}: {len(tables)} {sentence.format(', '.join(map(escaped, tables[:_MAX_NAMED])) + more)}")
        visited = {place.stamp.name for place in places}
        stamps = self.folder / resume.DONE
        names = [entry.name for entry in os.scandir(stamps) if entry.name.endswith(".json")] if stamps.is_dir() else []
        others = [stamps / name for name in names if name not in visited and not name.startswith(".")]
        read = [stamp for stamp in map(resume.read_stamp, sorted(others)) if stamp and stamp.settings != self.key]
        if read:
            say(
                f"{folder} also holds the tables of {len(read)} recordings that were not among these, of other "
                f"settings or another model (the first: {escaped(read[0].content.path)})."
            )


def _stored_beside(stamp: Path) -> str:
    """Path of the stored detections in the output folder."""
    return os.fspath(Path(resume.DONE, stamp.stem + SUFFIX))


def _is_stored(table: str) -> bool:
    return Path(table).parts[0] == resume.DONE


def _is_unchanged(content: Content) -> bool:
    """Whether a recording is still there with its size and modification time."""
    try:
        about = os.stat(content.path)
    except OSError:
        return False
    return (about.st_size, about.st_mtime_ns) == (content.n_bytes, content.mtime_ns)


def _rows(ledger: Path) -> list[dict[str, str]]:
    """The rows of an earlier ledger; none when there is none, or it is of something else."""
    try:
        with open(ledger, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return [row for row in rows if set(COLUMNS) <= {name for name, cell in row.items() if cell is not None}]
