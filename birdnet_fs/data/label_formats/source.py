"""What every layout reads from (`Source`) and gives (`Row`), and how cells are read."""

import ast
import csv
import functools
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birdnet_fs.audio.read import find_audio
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import COLUMNS
from birdnet_fs.schema import Data

# Raven, text, CSV and ANIMAL-SPOT tables as detectors name them
OUTPUT = re.compile(r"\.birdnet\.|\.annotation\.result\.txt$|\.kaleidoscope\.csv$", re.IGNORECASE)
LEDGER_HEADER = ",".join(COLUMNS)
NO_CALL = frozenset({"noise", "nocall", "no_call", "no call", "no-call", "background", "nothing", "empty"})
PATH_COLUMNS = ("path", "filename", "file", "filepath", "file_path", "file_name", "audio", "Begin Path", "Begin File")
ONSET_COLUMNS = ("onset_s", "onset", "start", "start_s", "start_time", "begin", "Begin Time (s)", "Starttime")
OFFSET_COLUMNS = ("offset_s", "offset", "end", "end_s", "end_time", "End Time (s)", "Endtime")
LABEL_COLUMNS = ("label", "primary_label", "species", "class", "common_name", "Common Name", "ebird_code", "category")
SECONDARY_COLUMNS = ("secondary_labels", "secondary")


@dataclass(frozen=True)
class Row:
    """One line of a table (or one file), as it stands there."""

    source: str  # "metadata.csv row 12"
    path: str  # as written; "" when the audio is found by `stem`
    labels: tuple[str, ...] = ()
    secondary: tuple[str, ...] = ()
    onset: str = ""  # seconds as text, "" = from the start
    offset: str = ""  # "" = to the end
    group: str = ""
    fold: str = ""
    split: str = ""
    stem: str = ""  # name of the audio without folder and extension
    beside: str = ""  # folder in which to look first
    labeled: bool = True  # False: an empty label is meant (nothing is called)
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A CSV (or tab-separated) file as text cells."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]  # (row number as a spreadsheet shows it, cells)

    def column(self, wanted: Sequence[str]) -> str:
        """The first of `wanted` that the table has (spelling before case), or ""."""
        lower = {name.lower(): name for name in reversed(self.columns)}
        for name in wanted:
            if name in self.columns:
                return name
        return next((lower[name.lower()] for name in wanted if name.lower() in lower), "")


@dataclass(frozen=True)
class Source:
    """A data folder and the settings that say how to read it; the scan of its files is made once."""

    data: Data
    root: Path  # absolute
    notes: list[str] = field(default_factory=list)

    @property
    def audio_root(self) -> Path:
        """Folder that holds the audio."""
        return self.root / self.data.audio

    @functools.cached_property
    def audio_files(self) -> list[Path]:
        """All audio below `audio_root`."""
        return find_audio(self.audio_root)

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
        """The table to read: the one set, else the only or best-named CSV of the folder."""
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
        """The CSV table, read."""
        return read_table(self.table_path, self.notes) if self.table_path else None

    @functools.cached_property
    def text_files(self) -> list[Path]:
        """Every .txt and .csv below the table's folder (or the root), sorted."""
        top = self.root / self.data.table if self.data.table else self.root
        if top.is_file():
            return [top]
        found = []
        for folder, folders, names in os.walk(top):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [Path(folder, name) for name in names if name.lower().endswith((".txt", ".csv", ".tsv"))]
        return sorted(self._labels(found))

    def _labels(self, paths: list[Path]) -> list[Path]:
        """Without what a detector wrote beside the audio, unless the layout was named: its guesses are no labels."""
        if self.data.layout != "auto":
            return paths
        kept = [path for path in paths if not is_output(path)]
        if len(kept) < len(paths):
            note = f"{len(paths) - len(kept)} tables of detections were not taken as labels; data.layout=raven would."
            if note not in self.notes:
                self.notes.append(note)
        return kept


def is_output(path: Path) -> bool:
    """Whether a file is a table of detections or a ledger, as `birdnet-fs analyze` and BirdNET write them."""
    if OUTPUT.search(path.name):
        return True
    with open(path, "rb") as file:
        return path.suffix.lower() == ".csv" and file.readline().decode("utf-8", "replace").strip() == LEDGER_HEADER


def read_text(path: Path, notes: list[str]) -> str:
    """A text file as UTF-8, or as Windows-1252 / Latin-1 with a note."""
    raw = path.read_bytes()
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        notes.append(f"{escaped(path.name)} was read as UTF-16.")
        return raw.decode("utf-16", "replace")
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "utf-8-sig":
            notes.append(f"{escaped(path.name)} is not UTF-8; it was read as {encoding}.")
        return text
    notes.append(f"{escaped(path.name)} is not UTF-8; it was read as latin-1.")
    return raw.decode("latin-1")


def read_table(path: Path, notes: list[str], delimiter: str = "") -> Table:
    """Read a table with a header line; the delimiter is the most frequent of `,` `;` tab in that line.

    Raises:
        UserError: The file is empty or not a table.
    """
    text = read_text(path, notes)
    head = text.split("\n", 1)[0]
    delimiter = delimiter or max(",;\t", key=head.count)
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        columns = tuple(cell.strip() for cell in next(lines, []))
        rows = []
        for cells in lines:
            if any(cell.strip() for cell in cells):
                padded = [*cells, *[""] * (len(columns) - len(cells))]
                rows.append((lines.line_num, dict(zip(columns, map(str.strip, padded), strict=False))))
    except csv.Error as error:
        raise UserError(f"{escaped(path)} must be a CSV table ({error}).") from None
    if not any(columns):
        raise UserError(f"{escaped(path)} must be a CSV table with a header line; it is empty.")
    return Table(path.name, columns, tuple(rows))


def labels_of(cell: str) -> tuple[str, ...]:
    """Labels in one cell: a Python list, or text separated by `;`. Words for no call give none.

    >>> labels_of("a;b"), labels_of("['a', 'b']"), labels_of("nocall"), labels_of("")
    (('a', 'b'), ('a', 'b'), (), ())
    """
    cell = cell.strip()
    values: Sequence[object] = cell.split(";")
    if cell.startswith("[") and cell.endswith("]"):
        try:
            found = ast.literal_eval(cell)
            values = found if isinstance(found, list) else values
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            pass
    named = [str(value).strip() for value in values]
    return tuple(dict.fromkeys(name for name in named if name and name.lower() not in NO_CALL))


def no_call(cell: str) -> bool:
    """Whether the cell says, in a word, that nothing is called."""
    return bool(cell.strip()) and not labels_of(cell)


def chosen(source: Source, table: Table, setting: str, wanted: str, others: Sequence[str]) -> str:
    """The column a setting names; when the setting is at its default, the first known spelling there is.

    Raises:
        UserError: A column was set that the table does not have (the nearest is named).
    """
    if wanted in table.columns:
        return wanted
    default = Data.__dataclass_fields__[setting].default
    if wanted and wanted != default:
        hint = nearest(wanted, table.columns)
        columns = ", ".join(table.columns)
        raise UserError(f"data.{setting}: {table.name} has no column {wanted!r}.{hint} Columns: {columns}")
    return table.column(others)


def bookkeeping(source: Source, table: Table, cells: Mapping[str, str]) -> dict[str, Any]:
    """The group, fold and split of a table row, as keywords of `Row`."""
    group = chosen(source, table, "group_column", source.data.group_column, ())
    fold = chosen(source, table, "fold_column", source.data.fold_column, ())
    split = chosen(source, table, "split_column", source.data.split_column, ())
    return {
        "group": cells.get(group, "") if group else "",
        "fold": cells.get(fold, "") if fold else "",
        "split": cells.get(split, "") if split else "",
    }


def tabular(source: Source, path_column: str, label_column: str, many_column: str = "") -> Iterator[Row]:
    """Rows of the source's table; `many_column` holds all labels of a row when data.multi_label is set."""
    table = source.table
    if table is None:
        raise UserError(f"No CSV table was found in {escaped(source.root)}; set data.table.")
    onset, offset = table.column(ONSET_COLUMNS), table.column(OFFSET_COLUMNS)
    second = table.column(SECONDARY_COLUMNS)
    for number, cells in table.rows:
        cell = cells[label_column] if label_column else ""
        labels = labels_of(cell) if source.data.multi_label else _one(cell)
        secondary = labels_of(cells[second]) if second else ()
        quiet = no_call(cell)
        if source.data.multi_label:
            if many_column and cells[many_column]:
                labels, quiet = labels_of(cells[many_column]), no_call(cells[many_column])
            labels = tuple(dict.fromkeys(labels + secondary))
        yield Row(
            f"{table.name} row {number}",
            cells[path_column],
            labels,
            secondary,
            onset=cells[onset] if onset else "",
            offset=cells[offset] if offset else "",
            labeled=not quiet,
            cells=cells,
            **bookkeeping(source, table, cells),
        )


def _one(cell: str) -> tuple[str, ...]:
    name = cell.strip()
    return (name,) if name and name.lower() not in NO_CALL else ()
