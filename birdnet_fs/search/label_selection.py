"""Choice of the windows of a store to label next, for one or several classes.

Sources: "top 10 + quantile" (Dumoulin et al. 2025, The Search for Squawk, https://arxiv.org/abs/2505.03071),
uncertainty (Lewis & Gale 1994, https://arxiv.org/abs/cmp-lg/9407020; entropy: Settles 2009, Active Learning Literature
Survey, section 3.1), and diversity by farthest-first traversal (Gonzalez 1985,
https://doi.org/10.1016/0304-3975(85)90224-5; as core-set selection: Sener & Savarese 2018,
https://arxiv.org/abs/1708.00489).

A store may hold any number of windows. Up to N_SAMPLE windows drawn at random stand for all of them where a choice
depends on the distribution (quantiles, diversity); the best windows of a class are those of the whole store.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.search.inner_products import widened
from birdnet_fs.search.store import Store

STRATEGIES = ("top-quantile", "uncertainty", "diversity")
N_SAMPLE = 20_000  # windows that stand for all: 80 MB of embeddings of 1,024 values
N_TOP = 30  # best windows of a class that "top" chooses from
QUANTILE_WIDTH = 0.2  # share of the windows that one choice by quantile is made from
N_UNCERTAIN = 5  # most uncertain windows, for each one that is chosen among them
N_STRATUM = 64  # most windows that the farthest one is chosen from
TINY = 1e-12


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Scores of windows for some classes, computed block by block.

    Attributes:
        names: Names of the classes, or of the examples.
        score: Embeddings float32 [n, width] -> scores float32 [n, n_classes]; NaN for a class of which nothing is
            known yet.
        activation: "sigmoid" or "softmax" for probabilities, "" for similarities.
    """

    names: tuple[str, ...]
    score: Callable[[np.ndarray], np.ndarray]
    activation: str = ""


@dataclass(frozen=True, eq=False)
class Labeled:
    """Windows of a store that are labeled.

    Attributes:
        rows: Their numbers, int [n].
        n_positives: Labels of each class of the scores, int [n_classes]. Default: (), none.
    """

    rows: np.ndarray
    n_positives: Sequence[int] = ()


@dataclass(frozen=True)
class SelectedWindow:
    """A window to label.

    Attributes:
        row: Number of the window in the store.
        class_index: Class that it was chosen for; -1 = for none.
        score: Score of that class, or NaN.
        chosen_as: Reason of the choice, as "top", "quantile 0.35", "uncertain" or "different".
    """

    row: int
    class_index: int
    score: float
    chosen_as: str


def select_windows(
    store: Store, n: int, *, by: str, scores: ClassScores | None = None, labeled: Labeled | None = None, seed: int = 0
) -> list[SelectedWindow]:
    """Choose windows to label next.

    - "top-quantile": for one class after another, the one with the fewest labels first, in turn one of the N_TOP best
      windows, and one from an interval of QUANTILE_WIDTH of the ranks below, where intervals are spread evenly.
      Of these windows (N_STRATUM drawn at random, if there are more), the one that is farthest from all labeled and
      chosen ones is taken, so that repeated and similar sounds are not asked for again. A chosen window counts for
      every class by its probability. For a class without scores (NaN), it is the farthest of the sample.
    - "uncertainty": of the N_UNCERTAIN * n windows with the highest entropy of the probabilities (with "sigmoid", the
      sum of the entropies of all classes), those that are farthest from all labeled and chosen ones, since the most
      uncertain windows are often the same sound.
    - "diversity": the window that is farthest from all labeled and chosen ones, again and again; without labels the
      first is the one most similar to the mean. It needs no scores and is the choice for the first labels.

    Distances are cosine distances of embeddings around their mean, with the square root of embeddings that have no
    negative values before.

    Args:
        store: The store.
        n: Number of windows, 1 or more.
        by: "top-quantile", "uncertainty" or "diversity".
        scores: Scores of the classes. Default: None, for "diversity".
        labeled: Labeled windows, which are not chosen again. Default: None, none.
        seed: Seed of the random draws, 0 or more. Default: 0.

    Returns:
        Windows in the order in which they were chosen, at most as many as are not labeled.

    Raises:
        UserError: An argument is out of range, `by` needs scores or probabilities that are not given, or every window
            is labeled.
    """
    if n < 1:
        raise UserError(f"The number of windows to label next must be 1 or more. Received: {n}")
    if by not in STRATEGIES:
        raise UserError(f"--by must be one of {', '.join(STRATEGIES)}. Received: {by!r}")
    if by != "diversity" and scores is None:
        raise UserError(f"--by {by} needs a run or examples to score the windows by; use --by diversity without them.")
    if by == "uncertainty" and scores is not None and not scores.activation:
        raise UserError("--by uncertainty needs the probabilities of a run; similarities to examples have none.")
    rows = np.empty(0, np.int64) if labeled is None else np.asarray(labeled.rows, np.int64)
    free = store.recording >= 0
    free[rows] = False
    if not free.any():
        raise UserError("All windows of the store are labeled; embed more recordings.")
    n = min(n, int(free.sum()))
    rng = generator(seed, Stream.LABEL_SELECTION, len(rows))
    candidates = np.flatnonzero(free)
    if len(candidates) > max(N_SAMPLE, n):
        candidates = np.sort(rng.choice(candidates, max(N_SAMPLE, n), replace=False))
    distances = _Distances(store, candidates, rows)
    if by == "uncertainty" and scores is not None:
        return _most_uncertain(store, scores, free, distances, n)
    if by == "diversity" or scores is None:
        return [SelectedWindow(row, -1, float("nan"), "different") for row in distances.farthest_first(candidates, n)]
    positives = np.zeros(len(scores.names))
    if labeled is not None and len(labeled.n_positives):
        positives += labeled.n_positives
    return _top_and_quantiles(store, scores, free, candidates, distances, positives, len(rows), n, rng)


class _Distances:
    """Distances of windows from those that are labeled or chosen."""

    def __init__(self, store: Store, sample: np.ndarray, labeled: np.ndarray) -> None:
        self._store = store
        embeddings = store.embeddings(sample)
        self._root = bool(embeddings.min(initial=0) >= 0)
        self._mean = self._transformed(embeddings).mean(axis=0)
        self._taken = [self._unit(labeled)]

    def _transformed(self, embeddings: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(embeddings, 0)) if self._root else embeddings

    def _unit(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        centered = self._transformed(self._store.embeddings(rows)) - self._mean
        return centered / np.maximum(np.linalg.norm(centered, axis=1, keepdims=True), TINY)

    def take_farthest(self, rows: np.ndarray) -> int:
        """Choose the window of some that is farthest from all labeled and chosen ones."""
        return self.farthest_first(rows, 1)[0]

    def farthest_first(self, rows: np.ndarray, n: int) -> list[int]:
        """Choose `n` windows, each farthest from those before."""
        unit, taken = self._unit(rows), np.concatenate(self._taken)
        nearest = (unit @ taken.T).max(axis=1) if len(taken) else -(unit @ unit.mean(axis=0))
        chosen: list[int] = []
        for _ in range(n):
            index = int(np.argmin(nearest))
            similar = unit @ unit[index]
            nearest = np.maximum(nearest, similar) if len(taken) or chosen else similar
            chosen.append(index)
            nearest[chosen] = np.inf
        self._taken.append(unit[chosen])
        return [int(rows[index]) for index in chosen]


def _top_and_quantiles(
    store: Store,
    scores: ClassScores,
    free: np.ndarray,
    sample: np.ndarray,
    distances: _Distances,
    n_labels: np.ndarray,
    n_labeled: int,
    n: int,
    rng: np.random.Generator,
) -> list[SelectedWindow]:
    best = _best_of_classes(store, scores, free, N_TOP + n)
    of_sample = _scores_of(store, scores, sample)
    ranked = np.argsort(-of_sample, axis=0, kind="stable")  # [n_sample, n_classes], NaN last
    start = rng.random()
    found: list[SelectedWindow] = []
    for turn in range(n):
        class_index = int(np.argmin(n_labels + TINY * rng.random(len(n_labels))))
        top, quantile = (n_labeled + turn) % 2 == 0, float("nan")
        left = sample[free[sample]]
        if np.isnan(of_sample[:, class_index]).all():
            rows, how = left, "different"
        elif top:
            column = best[:, class_index]
            rows, how = column[(column >= 0) & free[column]][:N_TOP], "top"
        else:
            column = sample[ranked[:, class_index]]
            column = column[free[column]]
            quantile = (start + len(found) * 0.618) % 1 * (1 - QUANTILE_WIDTH)  # golden ratio: spread evenly
            first = int(quantile * len(column))
            rows = column[first : max(int((quantile + QUANTILE_WIDTH) * len(column)), first + 1)]
            how = f"quantile {1 - quantile - QUANTILE_WIDTH / 2:.2f}"
        if not len(rows):
            rows = left
        if len(rows) > N_STRATUM and how != "different":
            rows = rng.choice(rows, N_STRATUM, replace=False)
        if not len(rows):
            break
        row = distances.take_farthest(rows)
        given = _scores_of(store, scores, np.array([row]))[0]
        found.append(SelectedWindow(row, class_index, float(given[class_index]), how))
        free[row] = False
        if scores.activation and not np.isnan(given[class_index]):
            n_labels += np.nan_to_num(given)
        else:
            n_labels[class_index] += 1
    return found


def _scores_of(store: Store, scores: ClassScores, rows: np.ndarray) -> np.ndarray:
    return scores.score(store.embeddings(rows))


def _best_of_classes(store: Store, scores: ClassScores, free: np.ndarray, n: int) -> np.ndarray:
    """Numbers [n, n_classes] of the best free windows of each class, best first; -1 = none."""
    n_classes = len(scores.names)
    rows, best = np.full((n, n_classes), -1), np.full((n, n_classes), -np.inf, np.float32)
    for first, block in widened(store.blocks):
        given = scores.score(block)
        given[~free[first : first + len(block)]] = -np.inf
        given[np.isnan(given)] = -np.inf
        together = np.concatenate([best, given])
        numbers = np.concatenate([rows, np.repeat(np.arange(first, first + len(block))[:, None], n_classes, axis=1)])
        order = np.argsort(-together, axis=0, kind="stable")[:n]
        best, rows = np.take_along_axis(together, order, 0), np.take_along_axis(numbers, order, 0)
    rows[np.isneginf(best)] = -1
    return rows


def _most_uncertain(
    store: Store, scores: ClassScores, free: np.ndarray, distances: _Distances, n: int
) -> list[SelectedWindow]:
    single = ClassScores(("entropy",), lambda block: _entropy(scores.score(block), scores.activation)[:, None])
    best = _best_of_classes(store, single, free, N_UNCERTAIN * n)[:, 0]
    rows = np.array(distances.farthest_first(best[best >= 0], n))
    given = _scores_of(store, scores, rows)
    classes = (
        np.nanargmin(np.abs(given - 0.5), axis=1) if scores.activation == "sigmoid" else np.nanargmax(given, axis=1)
    )
    return [
        SelectedWindow(int(row), int(c), float(values[c]), "uncertain")
        for row, c, values in zip(rows, classes, given, strict=True)
    ]


def _entropy(probabilities: np.ndarray, activation: str) -> np.ndarray:
    """Entropy of each row in nats; NaN counts as nothing known, a probability of one half."""
    p = np.clip(np.nan_to_num(probabilities.astype(np.float64), nan=0.5), TINY, 1 - TINY)
    values = -p * np.log(p)
    if activation == "sigmoid":
        values -= (1 - p) * np.log(1 - p)
    return np.asarray(values.sum(axis=1), np.float32)
