"""The data folder that layouts read from (`Source`), the rows that they return (`LabelRow`), and parsing of cells."""

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdnet_fs.audio.find import FoundAudio, find_audio
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped, unmark_formula
from birdnet_fs.core.walk import FolderFiles, list_files
from birdnet_fs.data.label_formats.cells import MISSING, SEPARATOR, cell_labels, list_labels
from birdnet_fs.data.label_formats.tables import Table, read_table
from birdnet_fs.data.ledger import COLUMNS
from birdnet_fs.schema import Data

# names of the Raven, text, CSV and ANIMAL-SPOT tables that detectors write
OUTPUT = re.compile(r"\.birdnet\.|\.annotation\.result\.txt$|\.kaleidoscope\.csv$", re.IGNORECASE)
LEDGER_HEADER = ",".join(COLUMNS)
PATH_COLUMNS = ("path", "filename", "file", "filepath", "file_path", "file_name", "audio", "Begin Path", "Begin File")
ONSET_COLUMNS = ("onset_s", "onset", "start", "start_s", "start_time", "begin", "Begin Time (s)", "Starttime")
OFFSET_COLUMNS = ("offset_s", "offset", "end", "end_s", "end_time", "End Time (s)", "Endtime")
LABEL_COLUMNS = ("label", "primary_label", "species", "class", "common_name", "Common Name", "ebird_code", "category")
SECONDARY_COLUMNS = ("secondary_labels", "secondary")
TABLES = (".txt", ".csv", ".tsv")  # extensions of tables


@dataclass(frozen=True)
class LabelRow:
    """One line of a table (or one file) as it is written, unchecked."""

    source: str  # table and row, as "metadata.csv row 12"
    path: str  # "" when the audio is found by `stem`
    labels: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    onset: str = ""  # seconds as text; "" = from the start
    offset: str = ""  # seconds as text; "" = to the end
    group: str = ""
    fold: str = ""
    split: str = ""
    stem: str = ""  # name of the audio file without folder and extension
    beside: str = ""  # folder that is searched first
    labeled: bool = True  # False: the row has no label on purpose (no class is present)
    unknown: tuple[str, ...] = ()  # classes that may be present or absent (UNK of DCASE)
    problem: str = ""  # why its labels cannot be used, one sentence
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
    def by_name(self) -> dict[str, list[Path]]:
        """Audio files by file name."""
        found: dict[str, list[Path]] = {}
        for path in self.audio_files:
            found.setdefault(path.name, []).append(path)
        return found

    @functools.cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        """Audio files by name without extension."""
        found: dict[str, list[Path]] = {}
        for path in self.audio_files:
            found.setdefault(path.stem, []).append(path)
        return found

    @functools.cached_property
    def table_path(self) -> Path | None:
        """The table: the one that data.table names, else the CSV with a usual name, else the only CSV of the folder."""
        if self.data.table:
            path = self.root / self.data.table
            if path.is_file():
                return path
            if path.is_dir():
                return None
            here = [entry.name for entry in os.scandir(self.root) if entry.is_file()]
            hint = nearest(self.data.table, here)
            raise UserError(f"data.table must be a file in {escaped(self.root)}.{hint} Received: {self.data.table!r}")
        entries = [Path(e.path) for e in os.scandir(self.root) if e.name.lower().endswith(".csv") and e.is_file()]
        names = sorted(path.name for path in self._labels(entries))
        for name in ("manifest.csv", "metadata.csv", "train.csv", "labels.csv", "annotations.csv"):
            if name in names:
                return self.root / name
        return self.root / names[0] if len(names) == 1 else None

    @functools.cached_property
    def table(self) -> Table | None:
        """The content of the table."""
        return read_table(self.table_path, self.notes) if self.table_path else None

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
        if len(kept) < len(paths):
            note = (
                f"{len(paths) - len(kept)} tables of detections were not used as labels; set data.layout (raven, csv, "
                "...) to use them."
            )
            if note not in self.notes:
                self.notes.append(note)
        return kept


def is_output(path: Path) -> bool:
    """Whether a file is a table of detections or a ledger, as `birdnet-fs analyze` and BirdNET write them."""
    if OUTPUT.search(path.name):
        return True
    with open(path, "rb") as file:
        return path.suffix.lower() == ".csv" and file.readline().decode("utf-8", "replace").strip() == LEDGER_HEADER


def choose_column(source: Source, table: Table, setting: str, wanted: str, others: Sequence[str]) -> str:
    """The column that a setting names; with the default of the setting also the first known name that the table has.

    Args:
        source: The data folder.
        table: The table.
        setting: Field of `Data`, as "label_column".
        wanted: Value of the setting.
        others: Known names of such a column.

    Returns:
        Name of the column, or "".

    Raises:
        UserError: The setting names a column that the table does not have; the message suggests the nearest one.
    """
    if wanted in table.columns:
        return wanted
    default = Data.__dataclass_fields__[setting].default
    if wanted and wanted != default:
        hint = nearest(wanted, table.columns)
        columns = ", ".join(table.columns)
        raise UserError(f"data.{setting}: {table.name} has no column {wanted!r}.{hint} Columns: {columns}")
    return table.column(others)


def group_fold_split(source: Source, table: Table, cells: Mapping[str, str]) -> dict[str, Any]:
    """The group, fold and split of a table row, as keyword arguments of `LabelRow`.

    Args:
        source: The data folder; its settings name the columns.
        table: The table.
        cells: Cells of the row.

    Returns:
        Values of "group", "fold" and "split", "" where the table has no such column.
    """
    group = choose_column(source, table, "group_column", source.data.group_column, ())
    fold = choose_column(source, table, "fold_column", source.data.fold_column, ())
    split = choose_column(source, table, "split_column", source.data.split_column, ())
    return {
        "group": cells.get(group, "") if group else "",
        "fold": cells.get(fold, "") if fold else "",
        "split": cells.get(split, "") if split else "",
    }


def rows_of_table(
    source: Source, path_column: str, label_column: str, labels_column: str = "", *, separators: str = SEPARATOR
) -> Iterator[LabelRow]:
    """Rows of the table of a data folder.

    Args:
        source: The data folder.
        path_column: Column of audio paths.
        label_column: Column of the primary label, or "".
        labels_column: Column of all labels, used with data.multi_label. Default: none.
        separators: Characters between secondary labels. Default: ";".

    Yields:
        One row per line.

    Raises:
        UserError: There is no table.
    """
    table = source.table
    if table is None:
        raise UserError(f"No CSV table was found in {escaped(source.root)}; set data.table.")
    onset, offset = table.column(ONSET_COLUMNS), table.column(OFFSET_COLUMNS)
    second = table.column(SECONDARY_COLUMNS)
    for number, cells in table.rows:
        cell = unmark_formula(cells[label_column]) if label_column else ""
        found = cell_labels(cell, source.data)
        second_found = list_labels(
            unmark_formula(cells[second]) if second else "", source.data, separators, missing=MISSING
        )
        labels, secondary = found.labels, second_found.labels
        if source.data.multi_label:
            if labels_column and cells[labels_column]:
                found = cell_labels(unmark_formula(cells[labels_column]), source.data)
            labels = tuple(dict.fromkeys(found.labels + secondary))
        yield LabelRow(
            f"{table.name} row {number}",
            cells[path_column],
            labels,
            secondary,
            onset=cells[onset] if onset else "",
            offset=cells[offset] if offset else "",
            labeled=found.labeled,
            problem=found.problem or second_found.problem,
            cells=cells,
            **group_fold_split(source, table, cells),
        )
