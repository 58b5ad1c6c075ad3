"""Triplets of motifs for Tile2Vec: an anchor, a neighbor that sounds alike, and a distant sound.

The scheme is that of the BirdCLEF 2022 solution, https://github.com/dsgt-birdclef/birdclef-2022. Each group (a species,
or a family of species) has equally many triplets, in four parts of equal size:

    neighbor: the pair of the motif in the same recording | the motif of another recording of the group
    distant: the motif of a recording of another group | a random place in a recording of another group

In a family, the other recording is of another species where there is one. Classes of a group are drawn with equal
probability, and so are the recordings of a class. There, positions were frames where seconds are expected; here all
are seconds.
"""

import csv
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.progress import say
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import escaped, unmark_formula
from birdnet_fs.motifs.profile_table import ProfileRow, need_pyarrow, parquet_columns, read_parquet

COLUMNS = ("a", "a_loc", "b", "b_loc", "c", "c_loc")
FAMILY_COLUMNS = ("class", "family")
MAX_SAMPLES = 100_000_000


class Triplet(NamedTuple):
    """Three places in recordings: paths relative to the folder of recordings, and starts in seconds."""

    a: str
    a_loc: float
    b: str
    b_loc: float
    c: str
    c_loc: float


class _Mined(NamedTuple):
    """A recording with a class and a motif."""

    name: str
    label: str
    motif_0_s: float
    motif_1_s: float
    last_s: float  # last place where a window begins


@dataclass(frozen=True)
class _Group:
    """Recordings of one group, by class."""

    by_class: Mapping[str, tuple[_Mined, ...]]

    @property
    def n(self) -> int:
        return sum(map(len, self.by_class.values()))


def draw_triplets(
    rows: Sequence[ProfileRow], n_samples: int, *, families: Mapping[str, str] | None = None, seed: int = 0
) -> list[Triplet]:
    """Draw triplets by species or by family.

    Args:
        rows: Mined recordings. Those without a class or without a motif are left out, and counted on stderr.
        n_samples: Number of triplets, 1 or more.
        families: Family of each class. None: each class is a group of its own.
        seed: Seed of the draws, 0 or more. Default: 0.

    Returns:
        The triplets, in random order.

    Raises:
        UserError: The number is out of range, a class has no family, or there are fewer than two groups.
    """
    if not 1 <= n_samples <= MAX_SAMPLES:
        raise UserError(f"--samples must be 1 to {MAX_SAMPLES:.0e}. Received: {n_samples}")
    groups = _groups(rows, families)
    rng = generator(seed, Stream.TRIPLETS)
    found: list[Triplet] = []
    for number, name in enumerate(groups):
        share = n_samples // len(groups) + (number < n_samples % len(groups))
        others = [group for other, group in groups.items() if other != name]
        found += [_draw(groups[name], others, i % 2 == 0, i // 2 % 2 == 0, rng) for i in range(share)]
    return [found[i] for i in rng.permutation(len(found))]


def _groups(rows: Sequence[ProfileRow], families: Mapping[str, str] | None) -> dict[str, _Group]:
    """Groups by name, sorted."""
    usable = [
        _Mined(row.source_name, row.label, *row.motif_s, last_s=max(0.0, row.duration_s - row.window_s))
        for row in rows
        if row.label and row.motif_s is not None
    ]
    if len(usable) < len(rows):
        n_unlabeled = sum(not row.label for row in rows)
        say(
            f"{len(rows) - len(usable)} of {len(rows)} recordings are in no triplet: {n_unlabeled} without a class, "
            f"{len(rows) - len(usable) - n_unlabeled} without a motif."
        )
    if families is not None:
        missing = sorted({row.label for row in usable} - families.keys())
        if missing:
            raise UserError(
                f"The table of families must have every class. Received: none for {missing[0]!r} ({len(missing)} such)"
            )
    found: dict[str, dict[str, list[_Mined]]] = {}
    for row in usable:
        group = row.label if families is None else families[row.label]
        found.setdefault(group, {}).setdefault(row.label, []).append(row)
    if len(found) < 2:
        raise UserError(
            "Triplets need recordings with motifs of two groups or more, since distant sounds are of another group. "
            f"Received: {', '.join(sorted(found)) or 'no recording with a class and a motif'}"
        )
    by_class = {name: {c: tuple(found[name][c]) for c in sorted(found[name])} for name in sorted(found)}
    return {name: _Group(classes) for name, classes in by_class.items()}


def _draw(
    group: _Group, others: Sequence[_Group], own_pair: bool, distant_motif: bool, rng: np.random.Generator
) -> Triplet:
    """One triplet; a group of a single recording has its own pair only."""
    row = _recording(group, rng)
    a, b = (row.name, row.motif_0_s), (row.name, row.motif_1_s)
    if not own_pair and group.n > 1:
        second = _neighbor(group, row, rng)
        b = (second.name, second.motif_1_s)
    other = _recording(others[int(rng.integers(len(others)))], rng)
    place = other.motif_0_s if distant_motif else rng.uniform(0.0, other.last_s)
    return Triplet(*a, *b, other.name, float(place))


def _recording(group: _Group, rng: np.random.Generator) -> _Mined:
    rows = list(group.by_class.values())[int(rng.integers(len(group.by_class)))]
    return rows[int(rng.integers(len(rows)))]


def _neighbor(group: _Group, row: _Mined, rng: np.random.Generator) -> _Mined:
    """Another recording of the group, of another class where there is one."""
    classes = [name for name in group.by_class if name != row.label]
    if classes:
        rows = group.by_class[classes[int(rng.integers(len(classes)))]]
    else:
        rows = tuple(other for other in group.by_class[row.label] if other is not row)
    return rows[int(rng.integers(len(rows)))]


def read_families(path: Path | str) -> dict[str, str]:
    """Read the family of each class from a CSV with the columns class and family.

    Args:
        path: The file, UTF-8.

    Returns:
        Family by class.

    Raises:
        UserError: The file is missing, is no such table, has an empty cell, or gives a class two families.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file)
            if not set(FAMILY_COLUMNS) <= set(table.fieldnames or ()):
                raise UserError(
                    f"{escaped(path)} must be a CSV with the columns class and family. "
                    f"Received: {', '.join(map(str, table.fieldnames or ('nothing',)))}"
                )
            found: dict[str, str] = {}
            for row in table:
                name, family = (unmark_formula((row[column] or "").strip()) for column in FAMILY_COLUMNS)
                if not name or not family:
                    raise UserError(f"{escaped(path)} line {table.line_num}: class and family must not be empty.")
                if found.setdefault(name, family) != family:
                    raise UserError(
                        f"{escaped(path)} line {table.line_num}: a class has one family. Received: {name!r} with "
                        f"{found[name]!r} and {family!r}"
                    )
            return found
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{escaped(path)} cannot be read as a CSV of classes and families ({error}).") from None


def triplet_file_name(n_samples: int, date: datetime.date) -> str:
    """Name of a table of triplets.

    >>> triplet_file_name(500_000, datetime.date(2022, 2, 26))
    '2022-02-26-motif-triplets-5e+05.parquet'
    """
    return f"{date.isoformat()}-motif-triplets-{n_samples:.0e}.parquet"


def parse_samples(text: str) -> int:
    """Read a number of samples, as 10000 or 5e5.

    Args:
        text: The option.

    Returns:
        A whole number.

    Raises:
        UserError: The text is no whole number of 1 or more.

    >>> parse_samples("5e5")
    500000
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (1 <= value <= MAX_SAMPLES and value == int(value)):
        raise UserError(f"--samples must be a whole number from 1 on, as 10000 or 5e5. Received: {text!r}")
    return int(value)


def write_triplets(triplets: Sequence[Triplet], path: Path) -> None:
    """Write triplets as a Parquet file, whole or not at all.

    Args:
        triplets: The triplets.
        path: A new file.

    Raises:
        UserError: pyarrow is missing, or the file exists.
    """
    need_pyarrow()
    import pyarrow
    from pyarrow import parquet

    if path.exists():
        raise UserError(f"{escaped(path)} exists already; move it away, or write into another folder.")
    columns = dict(zip(COLUMNS, map(list, zip(*triplets, strict=True)), strict=True))
    with atomic_path(path) as part:
        parquet.write_table(pyarrow.table(columns), part)


def read_triplets(path: Path | str) -> list[Triplet]:
    """Read a table of triplets.

    Args:
        path: The Parquet file.

    Returns:
        The triplets, in order.

    Raises:
        UserError: pyarrow or the file is missing, it is no Parquet file or lacks a column, the table has no row or an
            empty cell, or a time is below 0.
    """
    table = read_parquet(path, COLUMNS)
    rows = [Triplet(*row) for row in zip(*(table[name] for name in COLUMNS), strict=True)]
    if not rows:
        raise UserError(f"{escaped(path)} has no triplets; write it again (motifs generate-triplets).")
    for number, row in enumerate(rows):
        if None in row or not all(0 <= at < float("inf") for at in (row.a_loc, row.b_loc, row.c_loc)):
            raise UserError(
                f"{escaped(path)}, row {number}: three recordings and times of 0 s or more are needed. Received: {row}"
            )
    return rows


def is_triplet_table(path: Path | str) -> bool:
    """Whether a Parquet file holds triplets, and not mined recordings.

    Args:
        path: The file.

    Returns:
        True when it has the columns of triplets. A UserError of `parquet_columns` is passed on.
    """
    return set(COLUMNS) <= set(parquet_columns(path))
