"""Matrix profile: the nearest neighbor of every window of a feature sequence, after SiMPle.

Silva, Yeh, Batista, Keogh 2016, "SiMPle: assessing music similarity using subsequences joins", ISMIR. Windows are
compared by the squared Euclidean distance over all their frames and dimensions, without normalization of each window.

The inner products of all windows of a tile (ROWS x COLUMNS windows) are sums along the diagonals of the inner products
of their frames, which one matrix product gives (join_kernel.py). Memory is bounded by the size of a tile, and the sums
begin anew in every tile, so that roundings do not add up. The distance of the neighbor that is found is computed once
more from the windows themselves, in float64.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.join_kernel import tile_loop

Precision = Literal["float64", "float32"]
ROWS, COLUMNS = 128, 2048  # windows of a tile: 1 MB of float32, which stays in the second-level cache
PAIRS_PER_S = 2e8  # pairs of windows that one core compares, float32 (benchmarks/motifs.py); less where it is old
LONGEST_S = 24 * 3600  # a join that would take longer is refused
FAR = 1e30  # squared length of a window that is to be nobody's neighbor; finite, as the loop expects
_PIECE = 1 << 22  # values of the windows whose distances are computed at a time


@dataclass(frozen=True, eq=False)
class MatrixProfile:
    """The nearest neighbor of every window of a sequence.

    Attributes:
        distances: float64 [n_windows], squared Euclidean distances; infinite where a window has no neighbor.
        neighbors: int64 [n_windows], first frame of the neighbor of each window; -1 where it has none.
        window: Length of a window in frames.
    """

    distances: NDArray[np.float64]
    neighbors: NDArray[np.int64]
    window: int

    def __len__(self) -> int:
        return len(self.distances)


def self_join(
    features: np.ndarray,
    window: int,
    *,
    exclusion: int | None = None,
    active: np.ndarray | None = None,
    precision: Precision = "float32",
) -> MatrixProfile:
    """Nearest neighbor of every window among the other windows of the same sequence.

    Args:
        features: [n_frames, width], finite, such as chroma, log-mel features or embeddings.
        window: Frames of a window, 1 or more.
        exclusion: Windows that begin up to so many frames apart are not compared, 0 or more. Default: half a window,
            rounded as Python does (to even).
        active: bool [n_frames - window + 1], windows that are compared; the others get no neighbor and are none.
            Default: None, all.
        precision: Arithmetic in which neighbors are sought: "float64", or "float32", with which another neighbor may be
            found whose distance exceeds the smallest by a rounding (below 1e-4 for frames of length 1). Default:
            "float32".

    Returns:
        The profile, of n_frames - window + 1 windows; empty where the sequence is shorter than a window.

    Raises:
        UserError: The features are not finite or not [n_frames, width], a number is out of range, `active` has another
            length, or the join would take more than a day.
    """
    x = _checked(features, "features")
    exclusion = round(window / 2) if exclusion is None else exclusion
    _check_numbers(window, exclusion)
    n = max(0, len(x) - window + 1)
    _check_time(n, n)
    x = x - x.mean(axis=0, keepdims=True) if len(x) else x
    given = x.astype(precision)
    if active is not None and np.shape(active) != (n,):
        raise UserError(f"active must have a value for each of {n} windows. Received: {np.shape(active)}")
    best, index = _join(given, given, window, exclusion + 1, active)
    return _profile(x, x, best, index, window)


def ab_join(a: np.ndarray, b: np.ndarray, window: int, *, precision: Precision = "float32") -> MatrixProfile:
    """Nearest neighbor of every window of one sequence among the windows of another.

    Args:
        a: [n_frames, width], finite: the sequence whose windows get neighbors.
        b: [n_other_frames, width], finite: the sequence with the neighbors.
        window: Frames of a window, 1 or more.
        precision: Arithmetic in which neighbors are sought, "float64" or "float32" (see `self_join`). Default:
            "float32".

    Returns:
        The profile of `a`; without neighbors where `b` is shorter than a window.

    Raises:
        UserError: As of `self_join`, or the sequences differ in width.
    """
    first, second = _checked(a, "a"), _checked(b, "b")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"Sequences that are joined must have frames of one width. Received: {first.shape[1]} and {second.shape[1]}"
        )
    _check_numbers(window, 0)
    n, n_other = (max(0, len(x) - window + 1) for x in (first, second))
    _check_time(n, n_other)
    if n and n_other:
        center = second.mean(axis=0, keepdims=True)
        first, second = first - center, second - center
    best, index = _join(first.astype(precision), second.astype(precision), window, 0)
    return _profile(first, second, best, index, window)


def mean_distance(features: np.ndarray, window: int, active: np.ndarray | None = None) -> float:
    """Mean squared distance between two windows of a sequence, overlapping or not: what chance gives.

    Args:
        features: [n_frames, width], finite.
        window: Frames of a window, 1 to n_frames.
        active: bool [n_frames - window + 1], windows that count, at least one. Default: None, all.

    Returns:
        0 or more, from moments and not from pairs: twice the variance of the windows.
    """
    x = _checked(features, "features")
    x = x - x.mean(axis=0, keepdims=True)
    n = len(x) - window + 1
    weights = np.ones(n) / n if active is None else active / np.count_nonzero(active)
    of_mean = sum(float(np.square(weights @ x[k : k + n]).sum()) for k in range(window))
    return max(0.0, 2 * (float(weights @ _squares(x, window)) - of_mean))


def _checked(features: np.ndarray, name: str) -> NDArray[np.float64]:
    x = np.asarray(features)
    if x.ndim != 2 or not x.shape[1] or x.dtype.kind not in "fiu":
        raise UserError(f"{name} must be numbers [n_frames, width]. Received: {x.dtype} {list(x.shape)}")
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        raise UserError(f"{name} must be finite. Received: {(~np.isfinite(x)).any(axis=1).sum()} frames that are not")
    return x


def _check_numbers(window: int, exclusion: int) -> None:
    if window < 1:
        raise UserError(f"window must be 1 frame or more. Received: {window}")
    if exclusion < 0:
        raise UserError(f"exclusion must be 0 frames or more. Received: {exclusion}")


def _check_time(n: int, n_other: int) -> None:
    """Refuse a join that would take more than a day."""
    seconds = n * n_other / PAIRS_PER_S
    if seconds > LONGEST_S:
        raise UserError(
            f"A join of {n:,} windows with {n_other:,} others would take about {seconds / 86_400:.1f} days on one "
            "core; join shorter parts, take fewer frames per second, or compare with chosen windows only."
        )


def _join(
    a: NDArray[Any], b: NDArray[Any], window: int, gap: int, active: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """Smallest distance of each window of `a`, without its own square, and the window of `b` it belongs to."""
    n, n_other = (max(0, len(x) - window + 1) for x in (a, b))
    best, index = np.full(n, np.inf, a.dtype), np.full(n, -1, np.int32)
    squares, loop = _squares(b, window) if n_other else best, tile_loop()
    if active is not None:
        squares = np.where(active, squares, squares.dtype.type(FAR))
    for column in range(0, n, COLUMNS):
        to = min(column + COLUMNS, n)
        for row in range(0, n_other, ROWS):
            end = min(row + ROWS, n_other)
            products = b[row : end + window - 1] @ a[column : to + window - 1].T
            loop(products, window, squares[row:end], row, column, gap, best[column:to], index[column:to])
    if active is not None and n:
        index[~(active & active[index])] = -1
    return best, index


def _windows(x: NDArray[Any], window: int) -> NDArray[Any]:
    """All windows as rows [n, window * width], a view of contiguous frames."""
    width = x.shape[1]
    return sliding_window_view(np.ascontiguousarray(x).ravel(), window * width)[::width]


def _squares(x: NDArray[Any], window: int) -> NDArray[Any]:
    """Squared length of every window, summed in float64."""
    frames = np.square(x.astype(np.float64)).sum(axis=1)
    return sliding_window_view(frames, window).sum(axis=1).astype(x.dtype)


def _profile(
    a: NDArray[np.float64], b: NDArray[np.float64], best: NDArray[Any], index: NDArray[np.int32], window: int
) -> MatrixProfile:
    """The profile, with distances computed from the windows."""
    distances = np.full(len(best), np.inf)
    found = np.flatnonzero(index >= 0)
    if len(found):
        windows, others = _windows(a, window), _windows(b, window)
        step = max(1, _PIECE // windows.shape[1])
        for start in range(0, len(found), step):
            rows = found[start : start + step]
            distances[rows] = np.square(windows[rows] - others[index[rows]]).sum(axis=1)
    return MatrixProfile(distances, index.astype(np.int64), window)
