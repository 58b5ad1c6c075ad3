"""Division of windows into training, validation and test, and into folds.

A recording is never divided, unless rows are asked for: windows of one recording on both sides share its background
and its animals, so a score on rows flatters. Of several random divisions, the one is used whose parts come closest to
the sizes and to the share of calls that are asked for, and every part has windows with and without calls.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator, integer_seed

By = Literal["recordings", "rows"]
N_DRAWS = 50
Rows = NDArray[np.int64]


def groups_of(recordings: Sequence[str], by: str) -> NDArray[np.int64]:
    """Number of the group of each row: its recording, or the row itself.

    Args:
        recordings: [n_rows], recording or group of each row.
        by: "recordings" or "rows".

    Returns:
        int64 [n_rows].

    Raises:
        UserError: `by` is neither.
    """
    if by not in get_args(By):
        raise UserError(f"A split must be by recordings or rows. Received: {by!r}")
    if by == "rows":
        return np.arange(len(recordings))
    return np.unique(np.asarray(recordings), return_inverse=True)[1].astype(np.int64)


def split_groups(y: np.ndarray, groups: np.ndarray, shares: Sequence[float], seed: int) -> list[Rows]:
    """Divide rows into parts without dividing a group.

    Args:
        y: bool [n_rows], whether there is a call.
        groups: int64 [n_rows], from 0.
        shares: Share of the rows of each part; their sum is 1.
        seed: Seed of the draws.

    Returns:
        Numbers of the rows of each part, ascending.

    Raises:
        UserError: No draw gives every part rows with and without calls.
    """
    sizes, calls = np.bincount(groups), np.bincount(groups, y)
    best: tuple[float, list[Rows]] | None = None
    for draw in range(N_DRAWS if len(sizes) >= len(shares) else 0):
        order = generator(seed, Stream.NO_CALL_SPLIT, draw).permutation(len(sizes))
        ends = np.cumsum(sizes[order]) / len(y)
        cuts = [int(np.abs(ends - at).argmin()) + 1 for at in np.cumsum(shares)[:-1]]
        parts = np.split(order, cuts)
        n_rows = np.array([sizes[part].sum() for part in parts])
        n_calls = np.array([calls[part].sum() for part in parts])
        if (n_calls == 0).any() or (n_calls == n_rows).any():
            continue
        error = np.abs(n_rows / len(y) - shares).max() + np.abs(n_calls / n_rows - y.mean()).max()
        if best is None or error < best[0]:
            best = float(error), [np.flatnonzero(np.isin(groups, part)) for part in parts]
    if best is None:
        raise _refusal(f"{len(shares)} parts ({', '.join(f'{share:.1%}' for share in shares)})", y, groups)
    return best[1]


def fold_groups(y: np.ndarray, groups: np.ndarray, n_folds: int, seed: int) -> list[Rows]:
    """Divide rows into folds of similar size and share of calls, without dividing a group.

    Args:
        y: bool [n_rows].
        groups: int64 [n_rows].
        n_folds: Number of folds, 2 or more.
        seed: Seed of the draws.

    Returns:
        Numbers of the rows that each fold holds out.

    Raises:
        UserError: No draw gives every fold rows with and without calls.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    enough = len(np.unique(groups)) >= n_folds and min(y.sum(), (~y).sum()) >= n_folds
    for draw in range(N_DRAWS if enough else 0):
        splitter = StratifiedGroupKFold(
            n_folds, shuffle=True, random_state=integer_seed(seed, Stream.NO_CALL_FOLDS, draw)
        )
        folds = [held for _, held in splitter.split(y, y, groups)]
        if all(0 < y[held].sum() < len(held) for held in folds):
            return folds
    raise _refusal(f"{n_folds} folds", y, groups)


def _refusal(what: str, y: np.ndarray, groups: np.ndarray) -> UserError:
    mixed = sum(0 < y[groups == group].sum() < (groups == group).sum() for group in np.unique(groups))
    return UserError(
        f"Every one of {what} must have windows with and without calls; add recordings, or divide rows (--split rows), "
        f"which flatters. Received: {len(np.unique(groups))} recordings or rows, {mixed} of them with both, "
        f"{y.sum()} windows with calls and {(~y).sum()} without."
    )
