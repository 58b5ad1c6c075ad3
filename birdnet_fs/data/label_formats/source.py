"""The data folder that layouts read from (`Source`) and the rows that they return (`LabelRow`)."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from birdnet_fs.audio.find import FoundAudio, find_audio
from birdnet_fs.audio.index import AudioIndex
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped
from birdnet_fs.core.walk import FolderFiles, list_files
from birdnet_fs.data.label_formats.table_choice import ENDINGS, OUTPUT, FolderTables, choose_table, is_output, shown
from birdnet_fs.data.tables.reading import Table, open_table
from birdnet_fs.schema import Data

TABLES = (".txt", *ENDINGS)  # extensions of tables


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One line of a table (or one file) as it is written, unchecked."""

    source: str  # table and row, as "metadata.csv row 12"
    path: str  # "" when the audio is found by `stem`
    labels: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    onset: float | None = None  # seconds; None = from the start
    offset: float | None = None  # seconds; None = to the end
    in_samples: bool = False  # the times are numbers of samples of the recording
    group: str = ""
    fold: str = ""
    split: str = ""
    stem: str = ""  # name of the audio file, with or without extension, where the name of a table gives it
    beside: str = ""  # folder of the row's table, absolute; it is searched first
    folder: str = ""  # folder in which a file without a folder in its path is expected (BirdCLEF: the label)
    other_folders: frozenset[str] = frozenset()  # folders of the other labels, in which it is not
    above: str = ""  # folder of the path on the computer that wrote the table (Kaleidoscope)
    labeled: bool = True  # False: the row has no label on purpose (no class is present)
    unknown: tuple[str, ...] = ()  # classes that may be present or absent (UNK of DCASE)
    problem: str = ""  # why its labels cannot be used, one sentence
    problems: tuple[str, ...] = ()  # what is wrong with its times, one sentence each
    refused: str = ""  # why the row or its whole table cannot be used, one sentence; its audio is not looked up
    cells: Mapping[str, str] = field(default_factory=dict)  # all columns of the table


@dataclass(frozen=True)
class Source:
    """A data folder and its settings; its files are listed once, at the first access."""

    data: Data
    root: Path  # absolute
    notes: list[str] = field(default_factory=list)  # remarks for the user
    unreadable: dict[Path, str] = field(default_factory=dict)  # tables that cannot be opened, with the reason

    @property
    def audio_root(self) -> Path:
        """Folder that holds the audio."""
        return self.root / self.data.audio

    @functools.cached_property
    def found_audio(self) -> FoundAudio:
        """The files below `audio_root`: recordings, and an account of everything else."""
        return find_audio(self.audio_root)

    @property
    def audio_files(self) -> tuple[Path, ...]:
        """All audio below `audio_root`."""
        return self.found_audio.paths

    @functools.cached_property
    def index(self) -> AudioIndex:
        """The audio files by name."""
        return AudioIndex(self.audio_root, self.audio_files)

    @functools.cached_property
    def table_folder(self) -> Path:
        """Folder of the tables: data.table when that is a folder, else the root."""
        top = self.root / self.data.table
        return top if top.is_dir() else self.root

    @functools.cached_property
    def choice(self) -> FolderTables:
        """Table of labels among the tables in `table_folder`."""
        here = (path for path in self.text_files if path.parent == self.table_folder)
        files = [path for path in here if path.name.lower().endswith(ENDINGS)]
        found = choose_table(self.table_folder, files, self.data.label_column)
        if found.path and found.others:
            self.notes.append(f"{shown([found.path])} is read as the table of labels, not {shown(found.others)}.")
        return found

    @functools.cached_property
    def table_path(self) -> Path | None:
        """The table: the one that data.table names, else the one that `choose_table` finds."""
        if self.data.table and not (self.root / self.data.table).is_dir():
            path = self.root / self.data.table
            if path.is_file():
                return path
            here = [entry.name for entry in os.scandir(self.root) if entry.is_file()]
            hint = nearest(self.data.table, here)
            raise UserError(f"data.table must be a file in {escaped(self.root)}.{hint} Received: {self.data.table!r}")
        return self.choice.path

    @functools.cached_property
    def table(self) -> Table | None:
        """The table, of which the header was read."""
        return open_table(self.table_path, self.notes) if self.table_path else None

    @functools.cached_property
    def text_files(self) -> list[Path]:
        """All .txt, .csv and .tsv files below data.table (or the root), sorted."""
        top = self.root / self.data.table if self.data.table else self.root
        if top.is_file():
            return [top]
        found = []
        for path in (Path(name) for name in self.listed.files if name.lower().endswith(TABLES)):
            try:
                with open(path, "rb"):
                    found.append(path)
            except OSError as error:
                self.unreadable[path] = f"the file cannot be opened ({error.strerror})."
        return self._labels(found)

    @functools.cached_property
    def listed(self) -> FolderFiles:
        """The files below data.table (or the root)."""
        try:
            return list_files(self.root / self.data.table)
        except OSError as error:
            where = escaped(self.root / self.data.table)
            raise UserError(f"data.table or data.root must be a folder that can be read: {where}: {error}") from None

    def _labels(self, paths: list[Path]) -> list[Path]:
        """The paths without tables of detections: detections are not labels unless the layout is set."""
        if self.data.layout != "auto":
            return paths
        kept = [path for path in paths if not is_output(path)]
        n_detections = sum(bool(OUTPUT.search(path.name)) for path in paths)
        if n_detections:
            note = (
                f"{n_detections} tables of detections were not used as labels; set data.layout (raven, csv, "
                "...) to use them."
            )
            if note not in self.notes:
                self.notes.append(note)
        return kept
