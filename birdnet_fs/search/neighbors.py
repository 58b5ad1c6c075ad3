"""Exact nearest neighbors in an embedding store by cosine similarity, in blocks, merged per recording.

A similarity is the inner product of the query with unit length and a window's embedding, divided by the length of the
embedding, which the store keeps.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.inner_products import inner_products
from birdnet_fs.search.store import Store

TINY = 1e-12


@dataclass(frozen=True)
class Neighbor:
    """One result.

    Attributes:
        recording: Path of the recording as in the store.
        start_s: Start of the best window in seconds.
        end_s: End of the best window in seconds.
        similarity: Cosine similarity in -1..1, or the score that was asked for.
        n_windows: Number of consecutive windows among the results that were merged into this one.
        row: Number of the best window in the store.
    """

    recording: str
    start_s: float
    end_s: float
    similarity: float
    n_windows: int
    row: int


def similarities(store: Store, queries: np.ndarray) -> NDArray[np.float32]:
    """Cosine similarity of every window with the most similar of some queries.

    Args:
        store: The store.
        queries: [n_queries, width] or [width].

    Returns:
        float32 [n_windows]; -inf for windows of recordings that were embedded again later.

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
    found = inner_products(store.blocks, queries / lengths).max(axis=1) / np.maximum(store.norms, TINY)
    found[store.recording < 0] = -np.inf
    return found


def best_windows(store: Store, scores: np.ndarray, n_best: int) -> list[Neighbor]:
    """The windows with the highest scores; those that overlap or follow each other in a recording are merged.

    Args:
        store: The store.
        scores: float32 [n_windows].
        n_best: Highest number of results, 1 or more.

    Returns:
        Results with falling score; ties in the order of the store. A result has the times of its best window.

    Raises:
        UserError: `n_best` is below 1.
    """
    if n_best < 1:
        raise UserError(f"The number of results must be 1 or more. Received: {n_best}")
    usable = int(np.isfinite(scores).sum())
    size = min(usable, 4 * n_best)
    while True:
        order = np.argpartition(-scores, size - 1)[:size] if size < len(scores) else np.arange(len(scores))
        order = order[np.lexsort((order, -scores[order]))][:size]
        merged = _merged(store, scores, order)
        if len(merged) >= n_best or size >= usable:
            return merged[:n_best]
        size = min(usable, 2 * size)


def _merged(store: Store, scores: np.ndarray, order: np.ndarray) -> list[Neighbor]:
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
        Neighbor(
            store.recordings[recording[i]].path,
            float(start_s[i]),
            float(end_s[i]),
            float(scores[order[i]]),
            int(counts[group[i]]),
            int(order[i]),
        )
        for i in sorted(best)
    ]
