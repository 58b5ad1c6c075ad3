"""Rows and classes of a BirdCLEF competition, by the rules of `birdnet-fs submission`; used by kaggle_submission.py."""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from reading import InputError

GRID_S = 5  # length of a row in seconds
LONG = ("row_id", "file_id", "bird", "end_time")  # columns of test.csv in the form of 2022
LABEL, SCIENTIFIC, COMMON = "primary_label", "scientific_name", "common_name"  # columns of taxonomy.csv


class Rows(NamedTuple):
    """The rows of a submission."""

    names: list[str]  # row_id
    windows: list[tuple[str, int]]  # recording and end in seconds
    birds: tuple[str, ...] = ()  # class of each row of the form of 2022; () for one column per class


def read_csv(path: Path) -> list[list[str]]:
    """Read the cells of a CSV table.

    Args:
        path: The file, UTF-8.

    Returns:
        Its rows, the header first.

    Raises:
        InputError: The file is missing, empty or no such text.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a CSV table ({error}).") from None
    if not rows:
        raise InputError(f"{path} is empty.")
    return rows


def folded(name: str) -> str:
    """A name without case and Unicode normalization, with single spaces in place of spaces and underscores."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(text.replace("_", " ").split())


def match_classes(asked: Sequence[str], classes: Sequence[str], taxonomy: Path) -> dict[str, int]:
    """Find the classes of the competition in a model: by label, then scientific, then common name.

    Args:
        asked: Columns of sample_submission.csv.
        classes: Class names of the model.
        taxonomy: Table with primary_label, scientific_name and common_name; it may be missing.

    Returns:
        Index of the class of the model by the class of the competition; a name that fits several is not used.

    Raises:
        InputError: The model has none of them, or the table lacks a column.
    """
    names: dict[str, tuple[str, str]] = {}
    if taxonomy.is_file():
        head, *rows = read_csv(taxonomy)
        lacking = [column for column in (LABEL, SCIENTIFIC, COMMON) if column not in head]
        if lacking:
            raise InputError(f"{taxonomy} must have the columns {LABEL}, {SCIENTIFIC} and {COMMON}.")
        at = [head.index(column) for column in (LABEL, SCIENTIFIC, COMMON)]
        for row in rows:
            if len(row) == len(head):
                names.setdefault(row[at[0]], (row[at[1]], row[at[2]]))
    pairs = [_scientific_and_common(name) for name in classes]
    none = ("", "")
    steps = (
        (list(asked), classes),
        ([folded(name) for name in asked], [folded(name) for name in classes]),
        ([folded(names.get(name, none)[0]) for name in asked], [folded(pair[0]) for pair in pairs]),
        ([folded(names.get(name, none)[1]) for name in asked], [folded(pair[1]) for pair in pairs]),
    )
    found: dict[str, int] = {}
    for wanted, offered in steps:
        for place, key in enumerate(wanted):
            if key and wanted.count(key) == offered.count(key) == 1 and asked[place] not in found:
                number = offered.index(key)
                if number not in found.values():
                    found[asked[place]] = number
    if not found:
        raise InputError(
            f"None of the {len(asked)} classes of the competition ({', '.join(asked[:3])}, ...) is a class of the "
            f"model ({', '.join(classes[:3])}, ...) by label, scientific or common name."
        )
    return found


def _scientific_and_common(name: str) -> tuple[str, str]:
    """The two parts of `Scientific name_Common name`; any other name is both."""
    first, _, second = name.partition("_")
    words = first.split(" ")
    binomial = 2 <= len(words) <= 4 and words[0].istitle() and all(word == word.lower() for word in words[1:])
    return (first, second) if second.strip() and binomial else (name, name)


def long_rows(table: list[list[str]], path: Path) -> tuple[Rows, list[str]]:
    """The rows of the form of 2022: test.csv with row_id, file_id, bird and end_time.

    Args:
        table: Cells of test.csv, the header first.
        path: The file, for messages.

    Returns:
        The rows, and the classes in the order of their first row.

    Raises:
        InputError: A column is missing, or an end is no multiple of GRID_S.
    """
    head, rows = table[0], Rows([], [])
    if any(name not in head for name in LONG):
        raise InputError(f"{path} must have the columns {', '.join(LONG)}. Received: {', '.join(head[:10])}")
    at, birds = [head.index(name) for name in LONG], list[str]()
    for cells in table[1:]:
        name, recording, bird, end = (cells[i] if i < len(cells) else "" for i in at)
        if not recording or not bird or not end.isdigit() or int(end) == 0 or int(end) % GRID_S:
            raise InputError(f"{path}: end_time must be a multiple of {GRID_S} s. Received: {','.join(cells)}")
        rows.names.append(name or f"{recording}_{bird}_{end}")
        rows.windows.append((recording, int(end)))
        birds.append(bird)
    return rows._replace(birds=tuple(birds)), list(dict.fromkeys(birds))


def find_rows(sample: list[list[str]], recordings: dict[str, list[Path]], recording_s: float) -> tuple[Rows, str]:
    """The rows of a submission, by the rules of `birdnet-fs submission --rows auto`.

    Args:
        sample: Cells of sample_submission.csv.
        recordings: The recordings by their name.
        recording_s: Length of the recordings of the competition in seconds.

    Returns:
        The rows, and a sentence about where they come from.

    Raises:
        InputError: A row does not end at a multiple of GRID_S.
    """
    rows = Rows([], [])
    for cells in sample[1:]:
        name, _, end = cells[0].rpartition("_")
        if not name or not end.isdigit() or int(end) == 0 or int(end) % GRID_S:
            raise InputError(f"row_id must be RECORDING_END, a multiple of {GRID_S} s. Received: {cells[0]}")
        rows.names.append(cells[0])
        rows.windows.append((name, int(end)))
    named = {name for name, _ in rows.windows}
    new = sorted(recordings.keys() - named)
    if not recordings:
        return rows, f"there are no recordings: the {len(rows.names)} rows of the sample are written without scores"
    if not new:
        return rows, f"the {len(rows.names)} rows of the sample"
    if len(new) == len(recordings):
        rows = Rows([], [])
    for name in new:
        for end in range(GRID_S, int(max(recording_s, _length_s(recordings[name]))) + 1, GRID_S):
            rows.names.append(f"{name}_{end}")
            rows.windows.append((name, end))
    return rows, f"{len(rows.names)} rows, those of {len(new)} recordings among them that the sample does not name"


def _length_s(paths: list[Path]) -> float:
    """Length of a recording by its header; 0 where it cannot be read."""
    import soundfile

    try:
        return float(soundfile.info(str(paths[0])).duration)
    except RuntimeError:
        return 0.0
