"""Labels of an encoder's own scores: read from the file beside it, and compared with classes by scientific name.

BirdNET 2.4 has one line `Scientific name_Common name` a class; BirdNET 3.0 and Perch have CSV files with a header, of
which the column with scientific names is taken. A file with another number of names than the encoder has scores is
refused: its order would be that of another file.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.class_names import folded_name, scientific_and_common
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import EncoderCard

MAX_BYTES = 50_000_000
COLUMNS = ("scientific_name", "sci_name", "species", "latin", "name", "label", "ebird2021", "inat2024_fsd50k")


@dataclass(frozen=True)
class OwnClasses:
    """The classes of ours that an encoder has scores for.

    Attributes:
        names: The encoder's names for them, in the order of our classes.
        columns: Their places among the encoder's scores.
        classes: Our classes, as places in the list that was compared.
    """

    names: tuple[str, ...]
    columns: tuple[int, ...]
    classes: tuple[int, ...]


NO_CLASSES = OwnClasses((), (), ())


def labels_file(encoder: Path, card: EncoderCard, given: str = "") -> Path:
    """The file of labels of an encoder.

    Args:
        encoder: File of the encoder.
        card: Card of the encoder.
        given: Path that the user gives. Default: "", the file that the card names, beside the encoder.

    Returns:
        An existing file.

    Raises:
        UserError: There is no such file.
    """
    place = Path(given) if given else encoder.parent / (card.labels or f"{encoder.stem}_labels.txt")
    if not place.is_file():
        raise UserError(
            f"The scores of {escaped(card.name)} need the names of its classes; {escaped(place)} is no file. Give the "
            "file of labels with model.encoder_head.labels=FILE, or set model.encoder_head.own_scores=none."
        )
    return place


def read_labels(file: Path, n_scores: int) -> list[str]:
    """Read the names of an encoder's classes.

    Args:
        file: A text file with one name a line, or a .csv file with a header.
        n_scores: Number of scores of the encoder.

    Returns:
        One name for each score, in their order.

    Raises:
        UserError: The file is not UTF-8, has no column with names, or another number of names.
    """
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"{escaped(file)} must have {MAX_BYTES:,} bytes or fewer to be a file of labels.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(
            f"{escaped(file)} must be a text file in UTF-8 with the names of the encoder's classes."
        ) from None
    names = _of_csv(file, text) if file.suffix.lower() == ".csv" else [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
        names.pop()
    if len(names) != n_scores:
        raise UserError(
            f"{escaped(file)} must have {n_scores} names, as many as the encoder has scores; it has {len(names)}, and "
            "is the file of labels of another encoder or version."
        )
    return names


def _of_csv(file: Path, text: str) -> list[str]:
    lines = text.splitlines()
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = list(csv.reader(lines, delimiter=delimiter))
    header = [cell.strip().lower().replace(" ", "_") for cell in rows[0]] if rows else []
    column = next((header.index(name) for name in COLUMNS if name in header), 0 if len(header) == 1 else None)
    if column is None:
        raise UserError(
            f"{escaped(file)} must have a column with the names of the classes ({', '.join(COLUMNS)}). Received: "
            f"{escaped(', '.join(header)[:200])}"
        )
    return [row[column].strip() if column < len(row) else "" for row in rows[1:]]


def own_classes(labels: Sequence[str], classes: Sequence[str]) -> OwnClasses:
    """Find the classes for which an encoder has scores: of the same name, or of the same scientific name.

    A name that stands for several scores, or several classes that are one score, are left out, since it is not known
    which is meant.

    Args:
        labels: Names of the encoder, in the order of its scores.
        classes: Our classes.

    Returns:
        The classes that both have.

    >>> own_classes(["Parus major_Great Tit", "Turdus merula_Blackbird"], ["owl", "Turdus merula"])
    OwnClasses(names=('Turdus merula_Blackbird',), columns=(1,), classes=(1,))
    """
    found: dict[str, list[int]] = {}
    for column, label in enumerate(labels):
        for name in {folded_name(label), folded_name(label.partition("_")[0])}:
            found.setdefault(name, []).append(column)
    pairs = []
    for place, name in enumerate(classes):
        for text in (name, scientific_and_common(name)[0]):
            if len(columns := found.get(folded_name(text), [])) == 1:
                pairs.append((place, columns[0]))
                break
    counts = [column for _, column in pairs]
    pairs = [(place, column) for place, column in pairs if counts.count(column) == 1]
    return OwnClasses(
        tuple(labels[column] for _, column in pairs), tuple(c for _, c in pairs), tuple(place for place, _ in pairs)
    )
