"""Embeddings of labeled clips, window by window, as the heads on a foreign encoder are fitted to them.

Labels belong to clips and embeddings to windows. All windows of a clip together have the weight of one clip, so that a
long recording does not dominate, and every score is the mean over the windows of a clip (inference/clips.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError


@dataclass(frozen=True, eq=False)
class Views:
    """Augmented copies of clips, which heads are fitted to and never scored on.

    Attributes:
        features: float32 [n_windows, width] or [n_windows, n_tokens, width], as those of the clips.
        view: int [n_windows], number of the view of each window, ascending from 0; every view has a window.
        clip: int [n_views], number of the clip that the view is a copy of.
        partner: int [n_views], number of the clip that is mixed in; the clip itself where there is none.
        targets: float32 [n_views, n_classes], 0..1; -1 = unknown.
        own: float32 [n_windows, n_own], logits of the encoder for classes of its labels. Default: None, they are not
            read.
    """

    features: np.ndarray
    view: np.ndarray
    clip: np.ndarray
    partner: np.ndarray
    targets: np.ndarray
    own: np.ndarray | None = None

    def part(self, number: NDArray[np.int64]) -> "Views":
        """The views of some clips, without those that have a clip mixed in which is not one of them.

        Args:
            number: [n_clips], new number of each clip; below 0 = left out.

        Returns:
            The views.
        """
        kept = (number[self.clip] >= 0) & (number[self.partner] >= 0)
        place = np.cumsum(kept) - 1
        rows = kept[self.view]
        clip, partner = number[self.clip[kept]], number[self.partner[kept]]
        own = None if self.own is None else self.own[rows]
        return Views(self.features[rows], place[self.view[rows]], clip, partner, self.targets[kept], own)


@dataclass(frozen=True, eq=False)
class HeadData:
    """Embeddings and targets of clips.

    Attributes:
        features: float32 [n_windows, width], or tokens [n_windows, n_tokens, width].
        clip: int [n_windows], number of the clip of each window, ascending from 0; every clip has a window.
        targets: float32 [n_clips, n_classes], 0..1; below 0 = unknown, which neither the fit nor a metric uses.
        groups: [n_clips], recording group of each clip; a group is never divided between folds.
        augmented: Augmented copies of the clips. Default: None.
        own: float32 [n_windows, n_own], logits of the encoder for classes of its labels, which the last layer of the
            head reads too. Default: None.
    """

    features: np.ndarray
    clip: np.ndarray
    targets: np.ndarray
    groups: Sequence[str]
    augmented: Views | None = None
    own: np.ndarray | None = None

    @property
    def n_clips(self) -> int:
        """Number of clips."""
        return len(self.targets)

    @property
    def has_tokens(self) -> bool:
        """Whether the features are tokens."""
        return self.features.ndim == 3

    @property
    def n_own(self) -> int:
        """Number of own scores of the encoder."""
        return 0 if self.own is None else self.own.shape[1]

    @cached_property
    def inputs(self) -> np.ndarray:
        """Input of the network of the head, float32 [n_windows, ...]: the features, and the own scores behind."""
        return self.features if self.own is None else np.concatenate([self.features, self.own], axis=1)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of `inputs` for one window."""
        return self.inputs.shape[1:]

    @cached_property
    def n_windows(self) -> NDArray[np.int64]:
        """Number of windows of each clip [n_clips]."""
        return np.bincount(self.clip, minlength=self.n_clips)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each window [n_windows]; they sum to 1, and those of a clip to 1 / n_clips."""
        return 1.0 / self.n_windows[self.clip] / self.n_clips

    @cached_property
    def embeddings(self) -> np.ndarray:
        """float32 [n_windows, width]: the features, or the mean of the tokens of each window."""
        return self.features.mean(1, dtype=np.float32) if self.has_tokens else self.features

    @cached_property
    def known(self) -> NDArray[np.bool_]:
        """Whether each target is known [n_clips, n_classes]."""
        return self.targets >= 0

    def means(self, rows: NDArray) -> NDArray[np.float64]:
        """Mean over the windows of each clip, [n_windows, ...] -> float64 [n_clips, ...]."""
        sums = np.add.reduceat(rows.astype(np.float64, copy=False), np.cumsum(self.n_windows) - self.n_windows, axis=0)
        return sums / self.n_windows.reshape(-1, *[1] * (rows.ndim - 1))

    def with_views(self) -> "HeadData":
        """Data that a head is fitted to: the clips, and each view as one more clip of the group of its clip."""
        views = self.augmented
        if views is None:
            return self
        return HeadData(
            np.concatenate([self.features, views.features]),
            np.concatenate([self.clip, self.n_clips + views.view]),
            np.concatenate([self.targets, views.targets]),
            [*self.groups, *(self.groups[i] for i in views.clip)],
            own=None if self.own is None or views.own is None else np.concatenate([self.own, views.own]),
        )

    def part(self, clips: NDArray[np.int64]) -> "HeadData":
        """The data of some clips, given by their numbers in ascending order [n], with their views."""
        number = np.full(self.n_clips, -1)
        number[clips] = np.arange(len(clips))
        rows = number[self.clip] >= 0
        groups = [self.groups[i] for i in clips]
        views = self.augmented.part(number) if self.augmented else None
        own = None if self.own is None else self.own[rows]
        return HeadData(self.features[rows], number[self.clip[rows]], self.targets[clips], groups, views, own)


def check_data(data: HeadData, n_classes: int, what: str = "training") -> None:
    """Refuse data that no head can be fitted to.

    Args:
        data: The data.
        n_classes: Number of classes.
        what: Purpose of the clips, for the message. Default: "training".

    Raises:
        UserError: Shapes do not agree, there is no clip or class, a clip has no window, or an embedding is not finite.
    """
    features, clip, targets = data.features, data.clip, data.targets
    if features.ndim not in (2, 3) or clip.shape != features.shape[:1] or len(data.groups) != len(targets):
        raise UserError(
            "Embeddings must be [n_windows, width] or [n_windows, n_tokens, width], with a clip for each window and a "
            f"group for each clip. Received: {list(features.shape)}, {len(clip)} and {len(data.groups)} for "
            f"{len(targets)} clips"
        )
    if targets.ndim != 2 or targets.shape[1] != n_classes or n_classes < 1 or not len(targets):
        raise UserError(
            f"{what} targets must be [n_clips, n_classes] with 1 clip or more and {max(n_classes, 1)} classes. "
            f"Received: {list(targets.shape)}"
        )
    if (np.diff(clip) < 0).any() or not np.array_equal(np.unique(clip), np.arange(len(targets))):
        raise UserError(
            f"Windows must be in the order of their clips, and each of the {len(targets)} {what} clips must have one."
        )
    finite = np.isfinite(data.inputs.reshape(len(features), -1)).all(1)
    if not finite.all():
        bad = np.unique(clip[~finite])
        raise UserError(
            f"The encoder gave numbers that are not finite for {len(bad)} of {len(targets)} {what} clips (the first is "
            f"number {bad[0]}, group {data.groups[bad[0]]}); leave these recordings out, or check the encoder."
        )
