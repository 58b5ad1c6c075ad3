"""The rows that heads are fitted to, and the span in which they are fitted.

The rows are the windows, which are scored, and the mean embedding of each clip, since a label may belong to a part of a
clip only; both have half of the clip's weight. Measured with BirdNET V2.4 and head "linear", with the best
regularization of each: ten species with one label each, 5 folds, AUROC .9994 with windows, .9988 with means, .9996 with
both; the same as one-vs-rest problems, on folds of all clips, .9974 with means and .9990 with both; mixed soundscapes,
on folds of the training clips, .926 with windows, .929 with means, .926 with both.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.batches.class_balance import loss_weights
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.logistic import CrossEntropy

Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows in the span of the windows.

    The best weights lie in that span, so that where there are fewer windows than dimensions, fitting in it gives the
    same head in less time.

    Attributes:
        x: float64 [n_windows + n_clips, n], the windows and then the means of the clips; or tokens.
        loss: Loss of the rows of `x`.
        basis: Orthonormal columns [width, n]; None: n is the width.
    """

    x: NDArray
    loss: CrossEntropy
    basis: Doubles | None

    def to_width(self, kernel: NDArray) -> NDArray:
        """Weights [n, ...] of these rows -> weights of embeddings [width, ...]."""
        return kernel if self.basis is None else np.tensordot(self.basis, kernel, 1)


def training_rows(data: HeadData, x: NDArray, experiment: schema.Experiment) -> Rows:
    """Rows and loss of training clips.

    Args:
        data: The clips.
        x: Transformed embeddings of their windows [n_windows, width].
        experiment: Uses `data.multi_label` and `training.loss` (label smoothing and class weights).

    Returns:
        The rows.
    """
    windows, basis = np.asarray(x, np.float64), None
    if len(windows) < windows.shape[1]:
        basis, triangle = np.linalg.qr(windows.T)
        windows = triangle.T
    targets = np.concatenate([data.targets[data.clip], data.targets])
    shares = np.concatenate([data.weights, np.full(data.n_clips, 1 / data.n_clips)]) / 2
    loss = _loss(data, targets, shares, experiment)
    return Rows(np.concatenate([windows, data.means(windows)]), loss, basis)


def token_rows(data: HeadData, tokens: NDArray, experiment: schema.Experiment) -> Rows:
    """Rows and loss of tokens: the windows alone.

    Args:
        data: The clips.
        tokens: Transformed tokens of their windows [n_windows, n_tokens, width].
        experiment: Experiment whose `data.multi_label` and `training.loss` (label smoothing and class weights) are
            used.

    Returns:
        The rows [n_windows, n_tokens, width].
    """
    return Rows(tokens, _loss(data, data.targets[data.clip], data.weights, experiment), None)


def _loss(data: HeadData, targets: NDArray, weights: NDArray, experiment: schema.Experiment) -> CrossEntropy:
    """Cross-entropy of rows by the settings, with label smoothing; unknown targets stay below 0."""
    loss, multi_label = experiment.training.loss, experiment.data.multi_label
    even = 0.5 if multi_label else 1 / targets.shape[1]
    smoothed = np.where(targets < 0, targets, targets + loss.label_smoothing * (even - targets))
    factors = loss_weights(data.targets, loss.class_weights, rare_class_weight=loss.rare_class_weight)
    return CrossEntropy(smoothed, weights, multi_label, factors, np.any(data.targets > 0, axis=0))
