"""Uniform sampling of episodes from clips sorted by class and recording; episodes.py holds the public functions."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from birdnet_fs.core.errors import UserError

MAX_ROUNDS = 100  # draws of an episode whose recordings cannot be divided, after which an error is raised
BLOCK = 2_000_000  # cells (episode, class, recording) in memory at a time

Integers = NDArray[np.int64]


class Items:
    """Items sorted by class and recording. A cell holds the items of one class in one recording.

    Args:
        labels: Class of each item.
        groups: Recording (or individual) of each item.
    """

    def __init__(self, labels: Sequence[str], groups: Sequence[str]) -> None:
        names, label = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        _, group = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.names = tuple(names.tolist())
        self.order = np.lexsort((group, label))
        n_groups = int(group.max()) + 1
        cells, self.first_in_cell, self.n_in_cell = np.unique(
            label[self.order] * n_groups + group[self.order], return_index=True, return_counts=True
        )
        self.recording = cells % n_groups  # [n_cells]
        self.first_cell = np.searchsorted(cells // n_groups, np.arange(len(names) + 1))  # [n_classes + 1]
        self.n_items = np.bincount(label)  # [n_classes]
        self.first_item = np.cumsum(self.n_items) - self.n_items
        holds = csr_array((np.ones(len(cells), np.int32), (cells // n_groups, self.recording)))
        self.share = (holds @ holds.T).toarray() > 0  # [n_classes, n_classes]: whether two classes share a recording


def divisible(counts: Integers, n_shot: int, n_query: int) -> bool:
    """Whether the recordings of a class can be divided between support and query.

    Args:
        counts: int64 [n_recordings], clips of the class in each recording.
        n_shot: Clips that the one side needs.
        n_query: Clips that the other side needs.

    Returns:
        Whether both sides can have enough clips.
    """
    sums = 1  # bit i is set when some subset of the recordings holds i clips in total
    for count in counts.tolist():
        sums |= sums << count
    most = max(int(counts.sum()) - n_query, n_shot - 1)
    return bool(sums & ((1 << (most + 1)) - (1 << n_shot)))


def draw_distinct(rng: np.random.Generator, sizes: Integers, k: int) -> Integers:
    """Draw k distinct numbers below each of `sizes`, in random order.

    Args:
        rng: Random number generator.
        sizes: int64 of any shape, all k or more.
        k: Number of draws from each.

    Returns:
        int64 [*sizes.shape, k].
    """
    picks = np.empty((*sizes.shape, k), np.int64)
    for j in range(k):
        pick = rng.integers(0, sizes - j)
        taken = np.sort(picks[..., :j], axis=-1)
        for i in range(j):  # step over the numbers already drawn, the lowest first
            pick += pick >= taken[..., i]
        picks[..., j] = pick
    return picks


def draw_within_recordings(rng: np.random.Generator, items: Items, classes: Integers, k: int) -> Integers:
    """Draw the clips of each class from one of its recordings.

    Args:
        rng: Random number generator.
        items: Items, each class with k or more in one recording.
        classes: int64 [n_episodes, n_way].
        k: Clips per class.

    Returns:
        int64 [n_episodes, n_way, k], positions in `items.order`.
    """
    large = np.flatnonzero(items.n_in_cell >= k)
    first = np.searchsorted(large, items.first_cell)
    cell = large[rng.integers(first[classes], first[classes + 1])]
    return items.first_in_cell[cell][..., None] + draw_distinct(rng, items.n_in_cell[cell], k)


def draw_across_recordings(
    rng: np.random.Generator, items: Items, classes: Integers, n_shot: int, n_query: int
) -> tuple[Integers, Integers]:
    """Draw clips so that support and query share no recording.

    Episodes whose recordings cannot be divided are drawn again with other classes.

    Args:
        rng: Random number generator.
        items: Items, each class `divisible`.
        classes: int64 [n_episodes, n_way].
        n_shot: Support clips per class.
        n_query: Query clips per class.

    Returns:
        Classes, int64 [n_episodes, n_way], and positions in `items.order`, int64 [n_episodes, n_way, n_shot + n_query],
        support before query.

    Raises:
        UserError: Some episodes could not be divided in MAX_ROUNDS draws.
    """
    classes = classes.copy()
    n_episodes, n_way = classes.shape
    places = np.empty((n_episodes, n_way, n_shot + n_query), np.int64)
    cells_of_episode = n_way * len(items.recording) / len(items.names)
    block = max(1, round(BLOCK / cells_of_episode))
    todo = np.arange(n_episodes)
    for _ in range(MAX_ROUNDS):
        left = []
        for start in range(0, len(todo), block):
            now = todo[start : start + block]
            good, places[now] = _divide(rng, items, classes[now], n_shot, n_query)
            left.append(now[~good])
        todo = np.concatenate(left)
        if not len(todo):
            return classes, places
        classes[todo] = draw_distinct(rng, np.full(len(todo), len(items.names)), n_way)
    names = ", ".join(items.names[c] for c in classes[todo[0]])
    raise UserError(
        f"{len(todo)} of {n_episodes} episodes could not be drawn: their classes share recordings that cannot be "
        f"divided between support and query (such as those of {names}). Use a smaller n_way or recordings='any'."
    )


def _divide(
    rng: np.random.Generator, items: Items, classes: Integers, n_shot: int, n_query: int
) -> tuple[NDArray[np.bool_], Integers]:
    """Assign a random number in 0..1 to every recording of an episode and cut there: support below, query above.

    Returned are which episodes could be divided, bool [n], and positions in `items.order`
    [n, n_way, n_shot + n_query], which are meaningless for the other episodes.
    """
    keys = rng.integers(0, 2**64, len(classes), dtype=np.uint64)
    lowest, highest = np.empty(classes.shape), np.empty(classes.shape)  # the cut must lie in lowest <= cut < highest
    rows = {int(c): np.nonzero(classes == c) for c in np.unique(classes)}
    drawn = {}
    for c, (episode, way) in rows.items():
        cells = np.arange(items.first_cell[c], items.first_cell[c + 1])
        at = _uniform(keys[episode][:, None], items.recording[cells])
        order = np.argsort(at, axis=1)
        at, cells = np.take_along_axis(at, order, axis=1), cells[order]
        upto = np.cumsum(items.n_in_cell[cells], axis=1)
        enough = np.argmax(upto >= n_shot, axis=1)
        last = np.sum(upto <= upto[:, -1:] - n_query, axis=1)  # from here on, fewer than n_query clips are left
        lowest[episode, way] = np.take_along_axis(at, enough[:, None], axis=1)[:, 0]
        highest[episode, way] = np.take_along_axis(at, last[:, None], axis=1)[:, 0]
        drawn[c] = cells, at, upto
    tied = items.share[classes[:, :, None], classes[:, None, :]]
    for _ in range((classes.shape[1] - 1).bit_length()):  # classes tied to a tied class are tied
        tied = np.matmul(tied, tied)
    lowest = np.where(tied, lowest[:, None, :], 0.0).max(axis=2)
    highest = np.where(tied, highest[:, None, :], 1.0).min(axis=2)
    good = (lowest < highest).all(axis=1)
    cut = np.maximum(np.minimum(n_shot / (n_shot + n_query), np.nextafter(highest, 0.0)), lowest)

    places = np.zeros((*classes.shape, n_shot + n_query), np.int64)
    for c, (episode, way) in rows.items():
        kept = good[episode]
        episode, way = episode[kept], way[kept]
        cells, at, upto = (values[kept] for values in drawn[c])
        below = np.sum(np.where(at <= cut[episode, way][:, None], items.n_in_cell[cells], 0), axis=1)
        above = below[:, None] + draw_distinct(rng, upto[:, -1] - below, n_query)
        picks = np.concatenate([draw_distinct(rng, below, n_shot), above], axis=1)
        cell = np.sum(upto[:, None, :] <= picks[:, :, None], axis=2)
        before = np.take_along_axis(upto - items.n_in_cell[cells], cell, axis=1)
        places[episode, way] = items.first_in_cell[np.take_along_axis(cells, cell, axis=1)] + picks - before
    return good, places


def _uniform(keys: NDArray[np.uint64], numbers: Integers) -> NDArray[np.float64]:
    """Hash each key and number to [0, 1), the same value for the same pair (SplitMix64, Steele et al. 2014)."""
    x = keys + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
