"""Match of the classes of a model with those of a competition, by label, scientific or common name.

A model may be trained on `primary_label`s (`amerob`, `1139490`), on scientific names or on `Scientific name_Common
name`. The competition's taxonomy.csv (or its train table, or the eBird taxonomy of 2024) gives the names of a label.
A name that fits several classes on either side is not used: nothing is guessed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs.core.class_names import folded_name, scientific_and_common
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables.reading import open_table

TAXONOMIES = ("taxonomy.csv", "eBird_Taxonomy_v2021.csv", "train.csv", "train_metadata.csv")
LABEL = ("primarylabel", "speciescode")  # keys of columns
SCIENTIFIC = ("scientificname", "sciname")
COMMON = ("commonname", "primarycomname")
Names = tuple[str, str]  # scientific and common name; "" = unknown


@dataclass(frozen=True)
class ClassMatch:
    """The classes of a competition in a model.

    Attributes:
        columns: Index of the class of the model by the class of the competition.
        n_by_name: Number of them that were found by scientific or common name.
        unknown: Classes of the competition that the model does not have, in order.
        unused: Classes of the model that the competition does not ask for, in order.
    """

    columns: Mapping[str, int]
    n_by_name: int
    unknown: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def line(self) -> str:
        """A sentence for the user."""
        n_asked = len(self.columns) + len(self.unknown)
        found = f"{len(self.columns)} of {n_asked} classes of the competition are of the model"
        if self.n_by_name:
            found += f", {self.n_by_name} of them by scientific or common name"
        if self.unused:
            found += f"; {len(self.unused)} classes of the model are not asked for"
        return f"{found}."


def find_taxonomy(root: Path) -> Path | None:
    """The first table of TAXONOMIES in a folder that names labels; None where there is none."""
    for name in TAXONOMIES:
        path = root / name
        if path.is_file():
            table = open_table(path, [])
            if table.column(LABEL) and table.column(SCIENTIFIC):
                return path
    return None


def read_taxonomy(path: Path) -> dict[str, Names]:
    """Read the names of the labels of a competition.

    Args:
        path: Table with the column primary_label (or SPECIES_CODE) and scientific_name (or SCI_NAME), and where it has
            one common_name (or PRIMARY_COM_NAME).

    Returns:
        (scientific name, common name) by label; of a label that is there several times, the first.

    Raises:
        UserError: The file cannot be read or lacks a column.
    """
    table = open_table(path, [])
    label, scientific, common = (table.column(keys) for keys in (LABEL, SCIENTIFIC, COMMON))
    if not label or not scientific:
        raise UserError(
            f"{escaped(path)} must have the columns primary_label and scientific_name. Received: "
            f"{', '.join(map(escaped, table.columns[:10]))}"
        )
    found: dict[str, Names] = {}
    for _, cells, problem in table.rows():
        if not problem and cells.get(label):
            found.setdefault(cells.get(label), (cells.get(scientific), cells.get(common) if common else ""))
    return found


def match_classes(asked: Sequence[str], classes: Sequence[str], taxonomy: Mapping[str, Names]) -> ClassMatch:
    """Find the classes of a competition in a model: by equal label, then by scientific, then by common name.

    Args:
        asked: Classes of the competition.
        classes: Class names of the model.
        taxonomy: (scientific name, common name) by class of the competition.

    Returns:
        What was found.

    Raises:
        UserError: The model has none of them.

    >>> match_classes(["comtit", "amro"], ["Turdus migratorius_Robin"], {"amro": ("Turdus migratorius", "")}).columns
    {'amro': 0}
    """
    names = {name: taxonomy.get(name, ("", "")) for name in asked}
    parts = [scientific_and_common(name) for name in classes]
    columns: dict[str, int] = {}
    n_labels = 0
    steps: tuple[tuple[Iterable[str], Iterable[str]], ...] = (
        (asked, classes),
        (map(folded_name, asked), map(folded_name, classes)),
        ((folded_name(names[name][0]) for name in asked), (folded_name(part[0]) for part in parts)),
        ((folded_name(names[name][1]) for name in asked), (folded_name(part[1]) for part in parts)),
    )
    for number, (wanted, offered) in enumerate(steps):
        once = _once(offered)
        for key, place in _once(wanted).items():
            name = asked[place]
            if key in once and name not in columns and once[key] not in columns.values():
                columns[name] = once[key]
        n_labels = len(columns) if number == 1 else n_labels
    if not columns:
        raise UserError(
            f"None of the {len(asked)} classes of the competition is a class of the model by label, scientific or "
            f"common name. The competition asks for {_first(asked)}; the model has {_first(classes)}. A table that "
            "names the labels (primary_label, scientific_name, common_name) is given with --taxonomy."
        )
    taken = set(columns.values())
    return ClassMatch(
        {name: columns[name] for name in asked if name in columns},
        len(columns) - n_labels,
        tuple(name for name in asked if name not in columns),
        tuple(name for number, name in enumerate(classes) if number not in taken),
    )


def _once(keys: Iterable[str]) -> dict[str, int]:
    """Place of each key that occurs once and is not empty."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return {key: where[0] for key, where in places.items() if key and len(where) == 1}


def _first(names: Sequence[str]) -> str:
    return ", ".join(escaped(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
