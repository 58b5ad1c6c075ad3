"""Folds and splits in which every group (recording, site, recordist) is on one side, and a report of what crosses them.

Splits are stratified by the primary label. A class with fewer groups than parts cannot be in every part; scikit-learn
only warns, here its groups are assigned to training and a message lists these classes. Where that would be most
classes, the number of folds is lowered.
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.random_streams import Stream, generator, integer_seed
from birdnet_fs.core.text import escaped
from birdnet_fs.data.copies import SameSound, same_sounds
from birdnet_fs.data.manifest import Clip

PINNED = -1  # fold of items that are training items in every fold
Labels = Sequence[str | Sequence[str]]


def possible_folds(labels: Labels, groups: Sequence[str], n_folds: int) -> int:
    """Number of folds that most classes can fill.

    Args:
        labels: Label of each item, or its labels (the first one counts; no label is a class of its own).
        groups: Group of each item.
        n_folds: Wanted number of folds, 2 or more.

    Returns:
        `n_folds`, or the largest smaller number for which more than half of the classes with two groups or more have a
        group for every fold; 1 when no fold can be held out.

    Raises:
        UserError: Lengths differ, or `n_folds` is below 2.

    >>> possible_folds(["wren"] * 4 + ["owl"] * 3 + ["rook"], list("abcdefgh"), n_folds=5)
    3
    """
    primary = _primary(labels, groups)
    if n_folds < 2:
        raise UserError(f"n_folds must be 2 or more. Received: {n_folds}")
    n_groups = sorted(len(own) for own in _groups_of(primary, groups).values() if len(own) > 1)
    wanted = min(n_folds, n_groups[(len(n_groups) - 1) // 2]) if n_groups else 1
    for n in range(wanted, 1, -1):
        pinned = _pinned_groups(_groups_of(primary, groups), n)
        left = {(name, group) for name, group in zip(primary, groups, strict=True) if group not in pinned}
        if max(Counter(name for name, _ in left).values(), default=0) >= n:
            return n
    return 1


def assign_folds(labels: Labels, groups: Sequence[str], n_folds: int, seed: int) -> np.ndarray:
    """Draw grouped, stratified folds; a message is shown when there are fewer than wanted.

    Args:
        labels: Label of each item, or its labels (the first one counts; no label is a class of its own).
        groups: Group of each item; groups are not divided.
        n_folds: Number of folds, 2 or more; lowered to `possible_folds`.
        seed: Seed of the draw.

    Returns:
        int64 [n_items]: fold 0..n-1, or -1 (`PINNED`) for groups with a class that has fewer groups than folds: these
        are training items in every fold. All items are when `possible_folds` is 1.

    Raises:
        UserError: Lengths differ, or `n_folds` is below 2.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    primary, n = _primary(labels, groups), possible_folds(labels, groups, n_folds)
    folds = np.full(len(primary), PINNED)
    if n == 1:
        say(
            f"Nothing is held out: none of the {len(set(primary))} classes has two recordings (or groups) or more, so "
            f"all {len(primary)} clips are trained on and no metric can be computed."
        )
        return folds
    if n < n_folds:
        say(
            f"The number of folds is {n}, not {n_folds} (data.n_folds): most classes have fewer than {n_folds} "
            "recordings (or groups)."
        )
    free = ~_pinned(primary, groups, n, "folds")
    places = np.flatnonzero(free)
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=integer_seed(seed, Stream.FOLDS))
    kept, names = np.array(primary)[places], np.array(list(groups))[places]
    with warnings.catch_warnings():  # of a class with few groups that are not pinned; it is in fewer folds
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        drawn = list(splitter.split(places, kept, names))
    for fold, (_, held) in enumerate(drawn):
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


def _groups_of(primary: Sequence[str], groups: Sequence[str]) -> dict[str, set[str]]:
    """The groups of each class."""
    of_class: dict[str, set[str]] = {}
    for name, group in zip(primary, groups, strict=True):
        of_class.setdefault(name, set()).add(group)
    return of_class


def _pinned_groups(of_class: Mapping[str, set[str]], n_parts: int) -> set[str]:
    """Groups of the classes that have fewer groups than there are parts."""
    return set().union(*(own for own in of_class.values() if len(own) < n_parts))


def _pinned(primary: Sequence[str], groups: Sequence[str], n_parts: int, what: str) -> np.ndarray:
    """Bool [n_items]: items whose group has a class with fewer groups than there are parts; these are named."""
    of_class = _groups_of(primary, groups)
    rare = sorted(name for name, own in of_class.items() if len(own) < n_parts)
    if rare:
        shown = ", ".join(f"{name or 'no label'} ({len(of_class[name])})" for name in rare[:8])
        more = f" and {len(rare) - 8} more" if len(rare) > 8 else ""
        say(f"{len(rare)} classes have fewer groups than {n_parts} {what} and stay in training: {shown}{more}")
    pinned = _pinned_groups(of_class, n_parts)
    return np.array([group in pinned for group in groups])


@dataclass(frozen=True)
class Leaks:
    """Values on more than one side of a split (true when there is one), and recordings that are there twice."""

    groups: tuple[str, ...]
    identical: tuple[tuple[Path, ...], ...]  # files that hold the same recording, on different sides
    columns: Mapping[str, tuple[str, ...]]  # column of the table -> values on more than one side
    repeated: tuple[SameSound, ...] = ()  # files that hold the same recording, on any side

    def __bool__(self) -> bool:
        return bool(self.groups or self.identical or any(self.columns.values()))

    def __str__(self) -> str:
        found = [("groups", self.groups), *self.columns.items()]
        found.append(("identical recordings", tuple(" = ".join(p.name for p in paths) for paths in self.identical)))
        lines = [
            f"{len(v)} {name} on both sides: {escaped(', '.join(v[:5]))}{' ...' if len(v) > 5 else ''}"
            for name, v in found
            if v
        ]
        for labels, what in ((True, "with different labels"), (False, "with the same labels")):
            same = [one for one in self.repeated if bool(one.labels) == labels]
            if same:
                shown = "; ".join(map(str, same[:3])) + (" ..." if len(same) > 3 else "")
                lines.append(f"{len(same)} recordings are there more than once {what}: {shown}")
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
        Groups, recordings and values that are on more than one side, and recordings that are there twice.

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
    groups = _crossing([clip.group for clip in clips], sides)
    compared = [replace(clip, fingerprint=(fingerprints or {}).get(clip.path, clip.fingerprint)) for clip in clips]
    return Leaks(groups, tuple(identical), found, same_sounds(compared) if fingerprints else ())


def _crossing(values: Sequence[str], sides: Sequence[int]) -> tuple[str, ...]:
    pairs = Counter(value for value, _ in set(zip(values, sides, strict=True)) if value)
    return tuple(sorted(value for value, n in pairs.items() if n > 1))
