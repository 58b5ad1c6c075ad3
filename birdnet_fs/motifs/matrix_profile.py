"""Matrix profile: the nearest neighbor of every window of a feature sequence, after SiMPle.

Silva, Yeh, Batista, Keogh 2016, "SiMPle: assessing music similarity using subsequences joins", ISMIR. Windows are
compared by the squared Euclidean distance over all their frames and dimensions, without normalization of each window.

The inner products of all windows of a tile (ROWS x COLUMNS windows) are sums along the diagonals of the inner products
of their frames, which one matrix product gives (join_kernel.py). Memory is bounded by the size of a tile, and the sums
begin anew in every tile, so that roundings do not add up. The distance of the neighbor that is found is computed once
more from the windows themselves, in float64.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.join_kernel import distance_loop, prepare_loop, tile_loop

Precision = Literal["float64", "float32"]
ROWS, COLUMNS = 512, 1024  # windows of a tile: 2 MB of float32, which stays in the second-level cache
PAIR_S, VALUE_S = 8e-10, 1e-10  # time of a pair of windows and of each value of a frame, on one core, float32
LONGEST_S = 24 * 3600  # a join that would take longer is refused
FAR = 1e30  # squared length of a window that is to be no neighbor; finite, as the loop expects


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
    _check_time(n, n, x.shape[1])
    if active is not None and np.shape(active) != (n,):
        raise UserError(f"active must have a value for each of {n} windows. Received: {np.shape(active)}")
    given = _prepared(x, _center(x), window, precision)
    return _profile(x, x, _join(given, given, window, exclusion + 1, active), window)


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
        UserError: The features are not finite or not [n_frames, width], the sequences differ in width, a number is out
            of range, or the join would take more than a day.
    """
    first, second = _checked(a, "a"), _checked(b, "b")
    if first.shape[1] != second.shape[1]:
        raise UserError(
            f"Sequences that are joined must have frames of one width. Received: {first.shape[1]} and {second.shape[1]}"
        )
    _check_numbers(window, 0)
    n, n_other = (max(0, len(x) - window + 1) for x in (first, second))
    _check_time(n, n_other, first.shape[1])
    center = _center(second)
    one, other = (_prepared(x, center, window, precision) for x in (first, second))
    return _profile(first, second, _join(one, other, window, 0), window)


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
    squares = sliding_window_view(np.square(x).sum(axis=1), window).sum(axis=1)
    return max(0.0, 2 * (float(weights @ squares) - of_mean))


def _checked(features: np.ndarray, name: str) -> NDArray[np.float64]:
    x = np.asarray(features)
    if x.ndim != 2 or not x.shape[1] or x.dtype.kind not in "fiu":
        raise UserError(f"{name} must be numbers [n_frames, width]. Received: {x.dtype} {list(x.shape)}")
    x = np.ascontiguousarray(x, np.float64)
    if not np.isfinite(x).all():
        raise UserError(f"{name} must be finite. Received: {(~np.isfinite(x)).any(axis=1).sum()} frames that are not")
    return x


def _check_numbers(window: int, exclusion: int) -> None:
    if window < 1:
        raise UserError(f"window must be 1 frame or more. Received: {window}")
    if exclusion < 0:
        raise UserError(f"exclusion must be 0 frames or more. Received: {exclusion}")


def _check_time(n: int, n_other: int, width: int) -> None:
    """Refuse a join that would take more than a day."""
    seconds = n * n_other * (PAIR_S + width * VALUE_S)
    if seconds > LONGEST_S:
        raise UserError(
            f"A join of {n:,} windows with {n_other:,} others would take about {seconds / 86_400:.1f} days on one "
            "core; join shorter parts, take fewer frames per second, or compare with chosen windows only."
        )


class _Side(NamedTuple):
    """Frames [n_frames, width] around 0 and squared lengths of the windows [n_windows], in the precision of a join."""

    frames: NDArray[Any]
    squares: NDArray[Any]


def _center(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.full(len(x), 1 / max(1, len(x))) @ x)  # four times as fast as the mean of few frames


def _prepared(x: NDArray[np.float64], center: NDArray[np.float64], window: int, precision: Precision) -> _Side:
    """A sequence around the center of the sequence with the neighbors: offsets would cost digits."""
    n = max(0, len(x) - window + 1)
    side = _Side(np.empty(x.shape, precision), np.empty(n, precision))
    prepare_loop()(x, center, window, *side)
    return side


def _join(a: _Side, b: _Side, window: int, gap: int, active: np.ndarray | None = None) -> NDArray[np.int32]:
    """First frame of the nearest window of `b` for each window of `a`; -1 where there is none."""
    n, n_other = len(a.squares), len(b.squares)
    best, index = np.full(n, np.inf, a.frames.dtype), np.full(n, -1, np.int32)
    squares, loop = b.squares, tile_loop()
    if active is not None:
        squares = np.where(active, squares, squares.dtype.type(FAR))
    room = np.empty((min(n_other, ROWS) + window - 1) * (min(n, COLUMNS) + window - 1), best.dtype)
    for column in range(0, n, COLUMNS):
        to = min(column + COLUMNS, n)
        for row in range(0, n_other, ROWS):
            end = min(row + ROWS, n_other)
            rows, columns = b.frames[row : end + window - 1], a.frames[column : to + window - 1]
            products = room[: len(rows) * len(columns)].reshape(len(rows), len(columns))
            np.matmul(rows, columns.T, out=products)
            heads = columns[:window] @ rows.T
            loop(products, heads, squares[row:end], row, column, gap, best[column:to], index[column:to])
    if active is not None and n:
        index[~(active & active[index])] = -1
    return index


def _profile(a: NDArray[np.float64], b: NDArray[np.float64], index: NDArray[np.int32], window: int) -> MatrixProfile:
    """The profile, with distances computed from the windows."""
    distances = np.full(len(index), np.inf)
    distance_loop()(a.ravel(), b.ravel(), index, a.shape[1], window, distances)
    return MatrixProfile(distances, index.astype(np.int64), window)
