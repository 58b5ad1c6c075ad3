"""Episodes: a few classes, a few clips of each to learn from (support), a few more to recognize (query).

Source: Vinyals et al. 2016, "Matching Networks for One Shot Learning", https://arxiv.org/abs/1606.04080. Clips of one
recording share its individual, its microphone and its background, so by default no recording gives both support and
query: otherwise the numbers say how well a recording is recognized, not how well a species is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.random_streams import Stream, generator

# "across": in an episode no recording gives support and query; "within": those of a class come from one recording;
# "any": recordings do not count
RECORDINGS = ("across", "within", "any")
MAX_ROUNDS = 100  # draws of an episode whose recordings cannot be divided before it is given up
BLOCK = 2_000_000  # cells (episode, class, recording) that are held in memory at a time

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Episodes:
    """What `draw_episodes` gives: numbers of items, the classes of an episode in random order."""

    names: tuple[str, ...]  # of all classes, sorted
    classes: Integers  # [n_episodes, n_way], places in `names`, none twice in an episode
    support: Integers  # [n_episodes, n_way, n_shot], items
    query: Integers  # [n_episodes, n_way, n_query], items, none of them in the support
    recordings: str  # one of RECORDINGS


def draw_episodes(
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
    stream: Stream = Stream.TRAINING_EPISODES,
    epoch: int = 0,
    recordings: str = "across",
) -> Episodes:
    """Draw episodes; the same arguments always give the same ones.

    Classes are drawn without replacement, and so are the clips of a class. With "across" each recording is put on
    the side of the support with probability n_shot / (n_shot + n_query), moved as little as needed for every class
    to have enough on both sides; recordings that hold several classes of the episode are on one side for all.

    Args:
        labels: Per item its class.
        groups: Per item its recording (or individual).
        n_way: Classes of an episode, 2 or more.
        n_shot: Support clips of a class, 1 or more.
        n_query: Query clips of a class, 1 or more.
        n_episodes: 1 or more.
        seed: Of the draw.
        stream: Random stream of the draw, so that training, validation and test episodes are independent.
        epoch: Another number gives other episodes.
        recordings: Where support and query may come from, one of RECORDINGS.

    Raises:
        UserError: Settings out of range, fewer classes than `n_way`, or a class that cannot take part (see `why_not_drawable`).
    """
    if n_way < 2 or min(n_shot, n_query, n_episodes) < 1:
        raise UserError(
            "n_way must be 2 or more, n_shot, n_query and n_episodes 1 or more. "
            f"Received: {n_way}, {n_shot}, {n_query}, {n_episodes}"
        )
    found = why_not_drawable(labels, groups, n_shot=n_shot, n_query=n_query, recordings=recordings)
    if found:
        shown = "; ".join(f"{name} {why}" for name, why in list(found.items())[:3])
        more = f"; and {len(found) - 3} more classes" if len(found) > 3 else ""
        raise UserError(
            f"Episodes of n_shot={n_shot} and n_query={n_query} with recordings={recordings!r} cannot be drawn: {shown}"
            f"{more}. Add clips, leave these classes out, or ask for fewer clips or other recordings "
            f"({', '.join(RECORDINGS)})."
        )
    items = _Items(labels, groups)
    if len(items.names) < n_way:
        raise UserError(
            f"Episodes of n_way={n_way} need as many classes; use a smaller n_way. Received: {len(items.names)} classes"
        )
    rng = generator(seed, stream, epoch)
    classes = _distinct(rng, np.full(n_episodes, len(items.names)), n_way)
    k = n_shot + n_query
    if recordings == "any":
        places = items.first_item[classes][..., None] + _distinct(rng, items.n_items[classes], k)
    elif recordings == "within":
        places = _within(rng, items, classes, k)
    else:
        classes, places = _across(rng, items, classes, n_shot, n_query)
    clips = items.order[places]
    return Episodes(items.names, classes, clips[..., :n_shot], clips[..., n_shot:], recordings)


def draw_episodes_one_class_at_a_time(
    labels: Sequence[str], groups: Sequence[str], *, n_way: int, n_shot: int, n_query: int, n_episodes: int, seed: int
) -> tuple[list[Episodes], dict[str, str]]:
    """Episodes across recordings and episodes within them; arguments as `draw_episodes`.

    Returns:
        Those that can be drawn, across first; and why there are none across or within, where that is so.

    Raises:
        UserError: Neither can be drawn.
    """
    drawn, reasons = [], {}
    for recordings in ("across", "within"):
        try:
            drawn.append(
                draw_episodes(
                    labels,
                    groups,
                    n_way=n_way,
                    n_shot=n_shot,
                    n_query=n_query,
                    n_episodes=n_episodes,
                    seed=seed,
                    stream=Stream.EVALUATION_EPISODES,
                    recordings=recordings,
                )
            )
        except UserError as error:
            reasons[recordings] = str(error)
    if not drawn:
        raise UserError(" ".join(reasons.values()))
    return drawn, reasons


def why_not_drawable(
    labels: Sequence[str], groups: Sequence[str], *, n_shot: int, n_query: int, recordings: str = "across"
) -> dict[str, str]:
    """The classes that cannot take part in episodes, and why; arguments and errors as `draw_episodes`.

    >>> why_not_drawable(["wren", "wren", "owl", "owl"], ["a", "b", "c", "c"], n_shot=1, n_query=1)
    {'owl': 'has one recording only'}
    """
    if len(labels) != len(groups) or not len(labels):
        raise UserError(f"labels and groups must be as many, and not none. Received: {len(labels)} and {len(groups)}")
    if recordings not in RECORDINGS:
        raise UserError(
            f"recordings must be one of {', '.join(RECORDINGS)}.{nearest(recordings, RECORDINGS)} "
            f"Received: {recordings!r}"
        )
    items, k, found = _Items(labels, groups), n_shot + n_query, {}
    for c, name in enumerate(items.names):
        counts = items.n_in_cell[items.first_cell[c] : items.first_cell[c + 1]]
        n = int(counts.sum())
        if n < k:
            found[name] = f"has {n} clips, fewer than the {k} of an episode"
        elif recordings == "across" and len(counts) == 1:
            found[name] = "has one recording only"
        elif recordings == "across" and not _divisible(counts, n_shot, n_query):
            found[name] = f"has {len(counts)} recordings that cannot be divided into {n_shot} and {n_query} clips"
        elif recordings == "within" and counts.max() < k:
            found[name] = f"has at most {counts.max()} clips in a recording, fewer than the {k} of an episode"
    return found


class _Items:
    """Items sorted by class and recording; a cell is the items of one class in one recording."""

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
        self.share = (holds @ holds.T).toarray() > 0  # [n_classes, n_classes]: have a recording in common


def _divisible(counts: Integers, n_shot: int, n_query: int) -> bool:
    """Whether some of the recordings hold `n_shot` clips or more and the others `n_query` or more."""
    sums = 1  # bit i: some recordings hold i clips together
    for count in counts.tolist():
        sums |= sums << count
    most = max(int(counts.sum()) - n_query, n_shot - 1)
    return bool(sums & ((1 << (most + 1)) - (1 << n_shot)))


def _distinct(rng: np.random.Generator, sizes: Integers, k: int) -> Integers:
    """K different numbers below each of `sizes` (k or more), in random order: [*sizes.shape, k]."""
    picks = np.empty((*sizes.shape, k), np.int64)
    for j in range(k):
        pick = rng.integers(0, sizes - j)
        taken = np.sort(picks[..., :j], axis=-1)
        for i in range(j):  # step over those taken, the lowest first
            pick += pick >= taken[..., i]
        picks[..., j] = pick
    return picks


def _within(rng: np.random.Generator, items: _Items, classes: Integers, k: int) -> Integers:
    """Places in the order of `items`, each class in one of its recordings with k clips or more."""
    large = np.flatnonzero(items.n_in_cell >= k)
    first = np.searchsorted(large, items.first_cell)
    cell = large[rng.integers(first[classes], first[classes + 1])]
    return items.first_in_cell[cell][..., None] + _distinct(rng, items.n_in_cell[cell], k)


def _across(
    rng: np.random.Generator, items: _Items, classes: Integers, n_shot: int, n_query: int
) -> tuple[Integers, Integers]:
    """Classes, and places in the order of `items`; episodes that cannot be divided are drawn again, classes too."""
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
        classes[todo] = _distinct(rng, np.full(len(todo), len(items.names)), n_way)
    names = ", ".join(items.names[c] for c in classes[todo[0]])
    raise UserError(
        f"{len(todo)} of {n_episodes} episodes could not be drawn: their classes share recordings that cannot be "
        f"divided between support and query (such as those of {names}). Use a smaller n_way or recordings='any'."
    )


def _divide(
    rng: np.random.Generator, items: _Items, classes: Integers, n_shot: int, n_query: int
) -> tuple[NDArray[np.bool_], Integers]:
    """Give every recording of an episode a random place in 0..1 and cut there: support below, query above.

    Returns:
        Which episodes could be divided [n], and places [n, n_way, n_shot + n_query] (of no meaning for the others).
    """
    keys = rng.integers(0, 2**64, len(classes), dtype=np.uint64)
    lowest, highest = np.empty(classes.shape), np.empty(classes.shape)  # where the cut must and must not yet be
    rows = {int(c): np.nonzero(classes == c) for c in np.unique(classes)}
    drawn = {}
    for c, (episode, way) in rows.items():
        cells = np.arange(items.first_cell[c], items.first_cell[c + 1])
        at = _uniform(keys[episode][:, None], items.recording[cells])
        order = np.argsort(at, axis=1)
        at, cells = np.take_along_axis(at, order, axis=1), cells[order]
        upto = np.cumsum(items.n_in_cell[cells], axis=1)
        enough = np.argmax(upto >= n_shot, axis=1)
        last = np.sum(upto <= upto[:, -1:] - n_query, axis=1)  # from here on, too few would be left for the query
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
        above = below[:, None] + _distinct(rng, upto[:, -1] - below, n_query)
        picks = np.concatenate([_distinct(rng, below, n_shot), above], axis=1)
        cell = np.sum(upto[:, None, :] <= picks[:, :, None], axis=2)
        before = np.take_along_axis(upto - items.n_in_cell[cells], cell, axis=1)
        places[episode, way] = items.first_in_cell[np.take_along_axis(cells, cell, axis=1)] + picks - before
    return good, places


def _uniform(keys: NDArray[np.uint64], numbers: Integers) -> NDArray[np.float64]:
    """A number in [0, 1) for each key and number, the same whenever they are (SplitMix64, Steele et al. 2014)."""
    x = keys + (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
