"""Folds and splits in which every group (recording, site, recordist) is on one side, and a report of what crosses them.

Splits are stratified by the primary label. A class with fewer groups than parts cannot be in every part; scikit-learn
only warns, here its groups are assigned to training and a message lists these classes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.random_streams import Stream, generator, integer_seed
from birdnet_fs.data.manifest import Clip

PINNED = -1  # fold of items that are training items in every fold
Labels = Sequence[str | Sequence[str]]


def assign_folds(labels: Labels, groups: Sequence[str], n_folds: int, seed: int) -> np.ndarray:
    """Draw grouped, stratified folds.

    Args:
        labels: Label of each item, or its labels (the first one counts; no label is a class of its own).
        groups: Group of each item; groups are not divided.
        n_folds: Number of folds, 2 or more.
        seed: Seed of the draw.

    Returns:
        int64 [n_items]: fold 0..n_folds-1, or -1 (`PINNED`) for groups with a class that has fewer groups than folds:
        these are training items in every fold.

    Raises:
        UserError: Lengths differ, `n_folds` is below 2, or no class has enough groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    primary = _primary(labels, groups)
    if n_folds < 2:
        raise UserError(f"n_folds must be 2 or more. Received: {n_folds}")
    free = ~_pinned(primary, groups, n_folds, "folds")
    folds = np.full(len(primary), PINNED)
    left = {(name, group) for name, group, kept in zip(primary, groups, free, strict=True) if kept}
    if max(Counter(name for name, _ in left).values(), default=0) < n_folds:
        raise UserError(
            f"No class has {n_folds} groups or more; use fewer folds (data.n_folds) or other groups "
            "(data.group_column)."
        )
    places = np.flatnonzero(free)
    splitter = StratifiedGroupKFold(n_folds, shuffle=True, random_state=integer_seed(seed, Stream.FOLDS))
    kept, names = np.array(primary)[places], np.array(list(groups))[places]
    for fold, (_, held) in enumerate(splitter.split(places, kept, names)):
        folds[places[held]] = fold
    return folds


def split_by_groups(
    labels: Labels, groups: Sequence[str], fractions: Sequence[float], seed: int, stream: Stream = Stream.SPLIT
) -> np.ndarray:
    """Divide items into parts, as (0.8, 0.2) or (0.7, 0.15, 0.15), by groups and stratified.

    Args:
        labels: Label of each item, or its labels (the first one counts; no label is a class of its own).
        groups: Group of each item; groups are not divided.
        fractions: Share of the items of each class per part; they sum to 1, and the first part is training.
        seed: Seed of the draw.
        stream: Random stream of the draw; dividing one of the parts again needs another stream.

    Returns:
        int64 [n_items]: part 0..len(fractions)-1. Classes with fewer groups than parts are in part 0.

    Raises:
        UserError: Lengths differ, or the fractions are not positive numbers that sum to 1.
    """
    primary = _primary(labels, groups)
    if len(fractions) < 2 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UserError(f"fractions must be two or more, above 0, and sum to 1. Received: {tuple(fractions)}")
    classes = {name: i for i, name in enumerate(sorted(set(primary)))}
    held: dict[str, np.ndarray] = {}
    for name, group in zip(primary, groups, strict=True):
        held.setdefault(group, np.zeros(len(classes)))[classes[name]] += 1
    pinned = set(np.array(list(groups))[_pinned(primary, groups, len(fractions), "parts")].tolist())
    wanted = np.outer(fractions, np.sum(list(held.values()), axis=0))
    have = np.zeros_like(wanted)
    part = dict.fromkeys(pinned, 0)
    for group in pinned:
        have[0] += held[group]
    order = sorted(set(held) - pinned)
    generator(seed, stream).shuffle(order)
    order.sort(key=lambda group: -held[group].sum())  # large groups first, while there is room everywhere
    for group in order:
        # the part that lacks the largest share of this group's items; ties go to the larger part
        lack = ((1 - have / wanted) * held[group]).sum(axis=1)
        part[group] = max(range(len(fractions)), key=lambda i: (round(float(lack[i]), 9), fractions[i]))
        have[part[group]] += held[group]
    return np.array([part[group] for group in groups])


def _primary(labels: Labels, groups: Sequence[str]) -> list[str]:
    if len(labels) != len(groups) or not len(labels):
        raise UserError(
            f"labels and groups must have the same length, 1 or more. Received: {len(labels)} and {len(groups)}"
        )
    return [label if isinstance(label, str) else (label[0] if len(label) else "") for label in labels]


def _pinned(primary: Sequence[str], groups: Sequence[str], n_parts: int, what: str) -> np.ndarray:
    """Bool [n_items]: items whose group has a class with fewer groups than there are parts."""
    of_class: dict[str, set[str]] = {}
    for name, group in zip(primary, groups, strict=True):
        of_class.setdefault(name, set()).add(group)
    rare = sorted(name for name, own in of_class.items() if len(own) < n_parts)
    if rare:
        shown = ", ".join(f"{name or 'no label'} ({len(of_class[name])})" for name in rare[:8])
        more = f" and {len(rare) - 8} more" if len(rare) > 8 else ""
        say(f"{len(rare)} classes have fewer groups than {n_parts} {what} and stay in training: {shown}{more}")
    pinned = set().union(*(of_class[name] for name in rare))
    return np.array([group in pinned for group in groups])


@dataclass(frozen=True)
class Leaks:
    """What is on more than one side of a split; true when anything is."""

    groups: tuple[str, ...]
    identical: tuple[tuple[Path, ...], ...]  # files that hold the same recording, on different sides
    columns: Mapping[str, tuple[str, ...]]  # column of the table -> values on more than one side

    def __bool__(self) -> bool:
        return bool(self.groups or self.identical or any(self.columns.values()))

    def __str__(self) -> str:
        found = [("groups", self.groups), *self.columns.items()]
        found.append(("identical recordings", tuple(" = ".join(p.name for p in paths) for paths in self.identical)))
        lines = [
            f"{len(v)} {name} on both sides: {', '.join(v[:5])}{' ...' if len(v) > 5 else ''}" for name, v in found if v
        ]
        return "\n".join(lines) or "nothing crosses the split"


def leak_report(
    clips: Sequence[Clip],
    sides: Sequence[int] | np.ndarray,
    *,
    columns: Iterable[str] = (),
    fingerprints: Mapping[Path, str] | None = None,
) -> Leaks:
    """Find what is on more than one side of a split.

    Args:
        clips: The n clips of the split.
        sides: int [n], fold or part of each clip; -1 (always training) is a side of its own.
        columns: Columns of the table, such as "author" or "site", that are compared too; empty cells do not count.
        fingerprints: Fingerprint of each recording, from `copies.fingerprints(paths)`, to find the same recording
            under two names. Default: not compared.

    Returns:
        Groups, recordings and values that are on more than one side.

    Raises:
        UserError: `sides` and `clips` differ in length, or no clip has a value in one of the columns.
    """
    sides = [int(side) for side in sides]
    if len(sides) != len(clips):
        raise UserError(f"sides must have one entry per clip. Received: {len(sides)} sides and {len(clips)} clips")
    found: dict[str, tuple[str, ...]] = {}
    for column in columns:
        if not any(clip.row.get(column) for clip in clips):
            known = ", ".join(dict.fromkeys(name for clip in clips for name in clip.row))
            raise UserError(f"columns must be columns of the table; no clip has {column!r}. Columns: {known}")
        found[column] = _crossing([clip.row.get(column, "") for clip in clips], sides)
    identical = []
    if fingerprints:
        found_of = [fingerprints.get(clip.path, "") for clip in clips]
        for shared in _crossing(found_of, sides):
            identical.append(tuple(dict.fromkeys(c.path for c, f in zip(clips, found_of, strict=True) if f == shared)))
    return Leaks(_crossing([clip.group for clip in clips], sides), tuple(identical), found)


def _crossing(values: Sequence[str], sides: Sequence[int]) -> tuple[str, ...]:
    pairs = Counter(value for value, _ in set(zip(values, sides, strict=True)) if value)
    return tuple(sorted(value for value, n in pairs.items() if n > 1))
