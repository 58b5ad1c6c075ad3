"""Exact nearest neighbors in an embedding store by cosine similarity, in blocks, merged per recording.

A similarity is the inner product of the query with unit length and a window's embedding, divided by the length of the
embedding, which the store keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.inner_products import largest_inner_products
from birdnet_fs.search.label_selection import SelectedWindow
from birdnet_fs.search.store import Store

TINY = 1e-12


@dataclass(frozen=True, eq=False)
class WindowScores:
    """The best score of every window, and the query that it is of.

    Attributes:
        values: float32 [n_windows]; -inf for windows of recordings that were embedded again later.
        which: int [n_windows], index into `names`.
        names: Names of the queries: examples or classes.
    """

    values: NDArray[np.float32]
    which: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class FoundWindow:
    """One result.

    Attributes:
        recording: Path of the recording as in the store.
        start_s: Start of the best window in seconds.
        end_s: End of the best window in seconds.
        score: Cosine similarity in -1..1, or probability in 0..1; NaN for none.
        query: Example or class that the score is of; "" for none.
        n_windows: Number of consecutive windows among the results that were merged into this one.
        row: Number of the best window in the store.
        chosen_as: Reason for labeling the window next (`label_selection`); "" for a search result.
    """

    recording: str
    start_s: float
    end_s: float
    score: float
    query: str
    n_windows: int
    row: int
    chosen_as: str = ""


def found_window(store: Store, selected: SelectedWindow, names: Sequence[str]) -> FoundWindow:
    """A window to label next as a result.

    Args:
        store: The store.
        selected: The window.
        names: Names of the classes of the scores; () without scores.

    Returns:
        The result.
    """
    row = selected.row
    return FoundWindow(
        store.recordings[store.recording[row]].path,
        float(store.start_s[row]),
        float(store.end_s[row]),
        selected.score,
        names[selected.class_index] if selected.class_index >= 0 else "",
        1,
        row,
        selected.chosen_as,
    )


def similarities(store: Store, queries: np.ndarray, names: Sequence[str] = ()) -> WindowScores:
    """Cosine similarity of every window with the most similar of some queries.

    Args:
        store: The store.
        queries: [n_queries, width] or [width].
        names: Names of the queries. Default: (), their numbers from 1.

    Returns:
        The similarities.

    Raises:
        UserError: The width of the queries is not that of the store, or a query is zero or not finite.
    """
    unit = unit_queries(store, queries)
    found, which = largest_inner_products(store.blocks, unit)
    found /= np.maximum(store.norms, TINY)
    found[store.recording < 0] = -np.inf
    return WindowScores(found, which, tuple(names) or tuple(str(number + 1) for number in range(len(unit))))


def unit_queries(store: Store, queries: np.ndarray) -> NDArray[np.float32]:
    """Queries with length 1.

    Args:
        store: The store that they are for.
        queries: [n_queries, width] or [width].

    Returns:
        float32 [n_queries, width].

    Raises:
        UserError: The width of the queries is not that of the store, or a query is zero or not finite.
    """
    queries = np.atleast_2d(np.asarray(queries, np.float32))
    if queries.ndim != 2 or queries.shape[1] != store.header.width or not len(queries):
        raise UserError(
            f"Queries must have {store.header.width} values, as the store of {store.header.encoder}. Received shape: "
            f"{list(queries.shape)}"
        )
    lengths = np.linalg.norm(queries, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths < TINY).any():
        raise UserError("A query must not be zero, NaN or infinite; give an example with sound in it.")
    return queries / lengths


def best_windows(store: Store, scores: WindowScores, n_best: int) -> list[FoundWindow]:
    """The windows with the highest scores; those that overlap or follow each other in a recording are merged.

    Args:
        store: The store.
        scores: The score of each window.
        n_best: Highest number of results, 1 or more.

    Returns:
        Results with falling score; ties in the order of the store. A result has the times of its best window.

    Raises:
        UserError: `n_best` is below 1.
    """
    if n_best < 1:
        raise UserError(f"The number of results must be 1 or more. Received: {n_best}")
    values = scores.values
    usable = int(np.isfinite(values).sum())
    size = min(usable, 4 * n_best)
    while True:
        order = np.argpartition(-values, size - 1)[:size] if size < len(values) else np.arange(len(values))
        order = order[np.lexsort((order, -values[order]))][:size]
        merged = _merged(store, scores, order)
        if len(merged) >= n_best or size >= usable:
            return merged[:n_best]
        size = min(usable, 2 * size)


def _merged(store: Store, scores: WindowScores, order: np.ndarray) -> list[FoundWindow]:
    """Merge windows that touch, best first."""
    recording, start_s, end_s = store.recording[order], store.start_s[order], store.end_s[order]
    by_place = np.lexsort((start_s, recording))
    slack = 1e-6
    new = np.ones(len(order), bool)
    new[1:] = (recording[by_place][1:] != recording[by_place][:-1]) | (
        start_s[by_place][1:] > end_s[by_place][:-1] + slack
    )
    group = np.empty(len(order), np.int64)
    group[by_place] = np.cumsum(new) - 1
    counts = np.bincount(group)
    _, best = np.unique(group, return_index=True)  # `order` is sorted, so that the first of a group is its best
    return [
        FoundWindow(
            store.recordings[recording[i]].path,
            float(start_s[i]),
            float(end_s[i]),
            float(scores.values[order[i]]),
            scores.names[int(scores.which[order[i]])],
            int(counts[group[i]]),
            int(order[i]),
        )
        for i in sorted(best)
    ]
