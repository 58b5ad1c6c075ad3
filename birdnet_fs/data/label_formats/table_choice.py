"""Choice of the table of labels in a data folder, among tables that programs wrote and that hold no labels."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import COLUMNS as LEDGER_COLUMNS
from birdnet_fs.data.tables import columns as names
from birdnet_fs.data.tables.reading import Table, open_table

# names of the Raven, text, CSV and ANIMAL-SPOT tables that detectors write
OUTPUT = re.compile(r"\.birdnet\.|\.annotation\.result\.txt$|\.kaleidoscope\.csv$", re.IGNORECASE)
# first columns of the tables that this package writes beside a manifest.csv: ledgers, scores, partitions, support
# clips, detections of all recordings and their summaries
OWN_COLUMNS = (
    LEDGER_COLUMNS,
    ("path", "onset_s", "duration_s", "group", "labels"),
    ("part", "path", "onset_s", "offset_s"),
    ("label", "path", "onset_s", "offset_s"),
    ("path", "start_s", "end_s", "start_time"),
    ("path", "start_time", "hours_recorded"),
    ("label", "scientific_name", "common_name", "hour"),
)
MANIFEST_COLUMNS = ("path", "onset_s", "offset_s", "labels", "secondary", "group", "fold", "split")
SOUNDSCAPE_LABELS = ("rowid", "audioid", "seconds", "birds")  # keys of the columns of birdclef_soundscapes.py
USUAL_NAMES = ("manifest", "metadata", "train", "train_metadata", "labels", "annotations")  # in the order of preference
ENDINGS = (".csv", ".tsv")
N_SHOWN = 5  # tables named in a message


def is_output(path: Path) -> bool:
    """Whether a file is a table of detections or of scores, or a ledger, as this package and BirdNET write them."""
    return bool(OUTPUT.search(path.name)) or is_own(path)


def is_own(path: Path) -> bool:
    """Whether a text file is a table of scores, a partition or a ledger of this package, by its first columns."""
    if not path.name.lower().endswith(ENDINGS):
        return False
    with open(path, "rb") as file:
        head = file.readline(4096).decode("utf-8-sig", "replace").strip().split(",")
    return any(tuple(head[: len(own)]) == own for own in OWN_COLUMNS)


@dataclass(frozen=True)
class FolderTables:
    """Tables of a folder by their use.

    Attributes:
        path: The table of labels, or None.
        unusable: Tables that cannot be read as labels, each with the reason as a sentence.
        others: Further tables of labels that are not read.
    """

    path: Path | None
    unusable: tuple[tuple[Path, str], ...] = ()
    others: tuple[Path, ...] = ()


def table_problem(table: Table, label_column: str) -> str:
    """Find out why a table cannot hold the labels of recordings.

    Args:
        table: The table.
        label_column: Value of data.label_column.

    Returns:
        The end of the sentence "the table ..."; "" when it can.
    """
    columns = table.columns
    if set(MANIFEST_COLUMNS) <= set(columns) or is_soundscape_labels(columns):
        return ""
    have = ", ".join(map(escaped, columns[:20]))
    if not names.find(columns, names.PATHS):
        return f"has no column of audio files (path, filename, file, ...). Columns: {have}"
    if not names.find(columns, (*names.LABELS, "labels", names.key_of(label_column))):
        return f"has no column of labels (label, species, ...; data.label_column). Columns: {have}"
    return ""


def is_folder_of_tables(columns: Sequence[str]) -> bool:
    """Whether a table is one of many in a folder, one for each recording: of Raven or DCASE."""
    keys = {names.key_of(name) for name in columns}
    return names.is_selection_table(columns) or {"audiofilename", "starttime", "endtime"} <= keys


def is_soundscape_labels(columns: Sequence[str]) -> bool:
    """Whether the columns are those of train_soundscape_labels.csv of BirdCLEF: row_id, audio_id, seconds and birds."""
    return set(SOUNDSCAPE_LABELS) <= {names.key_of(name) for name in columns}


def choose_table(folder: Path, files: Sequence[Path], label_column: str) -> FolderTables:
    """Choose the table of labels among the tables of one folder: of several, the one with a usual name.

    Args:
        folder: The folder, for messages.
        files: Tables of the folder, without those of detections.
        label_column: Value of data.label_column.

    Returns:
        The choice; tables that belong to one recording each (Raven, DCASE) are left out.

    Raises:
        UserError: Several tables hold labels and none has a usual name.
    """
    usable, unusable = list[Path](), list[tuple[Path, str]]()
    for path in sorted(files):
        try:
            table = open_table(path, [])
            if is_folder_of_tables(table.columns):
                continue
            problem = table_problem(table, label_column)
            problem = problem and f"{escaped(path.name)} in {escaped(folder)} is not a table of labels: it {problem}"
        except UserError as error:
            problem = str(error).rstrip(".")
        if problem:
            unusable.append((path, problem))
        else:
            usable.append(path)
    ranked = [path for name in USUAL_NAMES for path in usable if path.stem.lower() == name]
    if len(usable) > 1 and not ranked:
        raise UserError(
            f"{escaped(folder)} has {len(usable)} tables of labels ({shown(usable)}); set data.table to one of them."
        )
    first = next(iter(ranked or usable), None)
    return FolderTables(first, tuple(unusable), tuple(path for path in usable if path != first))


def shown(paths: Sequence[Path]) -> str:
    """File names for a message."""
    more = ", ..." if len(paths) > N_SHOWN else ""
    return ", ".join(escaped(path.name) for path in paths[:N_SHOWN]) + more


def refuse_unread_tables(
    folder: Path, choice: FolderTables, below: Sequence[Path], layout: str, label_column: str
) -> None:
    """Refuse to take labels from names of folders and files where there is a table.

    Args:
        folder: The data folder.
        choice: Tables of the data folder by their use.
        below: Tables in deeper folders.
        layout: The layout that was detected.
        label_column: Value of data.label_column.

    Raises:
        UserError: There is a table in the folder, or a table of labels below it.
    """
    advice = f"set data.table to the table of labels, or data.layout={layout} to take the labels from names of folders"
    advice = advice if layout == "folders" else f"set data.table, or data.layout={layout} to use the names of the files"
    if choice.unusable:
        raise UserError(f"{choice.unusable[0][1]}; {advice}.")
    for path in below:
        try:
            table = open_table(path, [])
        except UserError:
            continue
        is_own = table.columns[: len(MANIFEST_COLUMNS)] == MANIFEST_COLUMNS
        if not is_own and not table_problem(table, label_column):
            place = escaped(os.path.relpath(path, folder))
            raise UserError(f"There is a table of labels below {escaped(folder)}, {place}, that is not read; {advice}.")
