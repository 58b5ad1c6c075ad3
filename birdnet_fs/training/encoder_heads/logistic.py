"""Multinomial and one-vs-rest logistic regression with soft targets, masks and class weights, by L-BFGS.

scikit-learn's `LogisticRegression` minimizes the same function for hard targets without masks (a test compares them);
it takes neither soft targets nor unknown ones.

One-vs-rest problems have no bias: on embeddings around their mean, the boundary of each class goes through the mean of
all clips, and the bias comes from the calibration on held-out clips (scoring.py). Measured with BirdNET V2.4 on mixed
soundscapes, on folds of the training clips: AUROC .929 and cmAP .875 without a bias, .916 and .831 with one (the best
regularization of each); on ten species as one-vs-rest problems .999 and .998. A softmax has a bias; its weights are the
only ones that are not regularized.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

Doubles = NDArray[np.float64]
MAX_ITERATIONS = 1000
GRADIENT = 1e-4  # largest slope at the end over l2, about the largest error of a weight; losses are of order 1
SMALLEST_GRADIENT = 1e-10


@dataclass(frozen=True, eq=False)
class CrossEntropy:
    """Weighted mean cross-entropy of rows, with its slope; only classes with a positive are in it.

    Args:
        targets: [n, n_classes], 0..1; below 0 = unknown.
        weights: Weight of each row [n], 0 or more.
        multi_label: Sigmoid for each class, else one softmax.
        class_weights: [n_classes], factor of the loss of the positives of each class. None: 1.
        present: Whether each class has a positive [n_classes].
    """

    targets: NDArray
    weights: Doubles
    multi_label: bool
    class_weights: NDArray | None
    present: NDArray

    @property
    def fits_bias(self) -> bool:
        """Whether the bias is fitted with the weights: of a softmax only."""
        return not self.multi_label

    @cached_property
    def bias_of_absent(self) -> Doubles:
        """-log(n + 1) for n rows with a known target [n_classes]: about the logit of one positive in n + 2."""
        return -np.log((self.targets >= 0).sum(0) + 1.0)

    @cached_property
    def _numbers(self) -> tuple[Doubles, Doubles, Doubles, Doubles]:
        """Share of each row, targets, weighted positives and the sum of both parts, all [n, n_present]."""
        given = self.targets[:, self.present]
        t = np.clip(given, 0, None).astype(np.float64)
        factor = 1.0 if self.class_weights is None else np.asarray(self.class_weights, np.float64)[self.present]
        share = np.repeat(self.weights[:, None], t.shape[1], axis=1)
        if self.multi_label:
            share = share * (given >= 0)
            return share / share.sum(0), t, factor * t, 1 - t + factor * t
        return share / self.weights.sum(), t, factor * t, (factor * t).sum(1, keepdims=True)

    def __call__(self, z: Doubles) -> tuple[float, Doubles]:
        """Loss of logits [n, n_present], and its slope [n, n_present]."""
        share, _, positive, total = self._numbers
        if self.multi_label:
            loss = (share * (total * np.logaddexp(0, z) - positive * z)).sum()
            return float(loss), share * (total * expit(z) - positive)
        log_p = log_softmax(z, axis=1)
        return float(-(share * positive * log_p).sum()), share * (np.exp(log_p) * total - positive)


def fit_logistic(
    x: NDArray, loss: CrossEntropy, l2: float, *, start: tuple[Doubles, Doubles] | None = None
) -> tuple[Doubles, Doubles]:
    """Minimize the cross-entropy plus l2 / 2 x the squared weights.

    Args:
        x: Embeddings [n, width].
        loss: Loss of the rows of `x`.
        l2: Regularization, 0 or more.
        start: Kernel and bias to start from. None: zeros.

    Returns:
        Kernel [width, n_classes] and bias [n_classes]. A class without a positive has a kernel of zeros and the bias
        `loss.bias_of_absent`.
    """
    present, n_present = loss.present, int(loss.present.sum())
    kernel, bias = np.zeros((np.shape(x)[1], len(present))), np.where(present, 0, loss.bias_of_absent)
    if not n_present:
        return kernel, bias
    rows, penalty = np.asarray(x, np.float64), np.full((len(kernel), 1), l2)
    first = np.zeros((len(kernel), n_present)) if start is None else start[0][:, present]
    if loss.fits_bias:
        rows, penalty = np.concatenate([rows, np.ones((len(rows), 1))], axis=1), np.append(penalty, [[0.0]], axis=0)
        first = np.append(first, np.zeros((1, n_present)) if start is None else start[1][None, present], axis=0)

    def loss_and_slope(flat: Doubles) -> tuple[float, Doubles]:
        found = flat.reshape(-1, n_present)
        value, residual = loss(rows @ found)
        slope = rows.T @ residual + penalty * found
        return value + 0.5 * float((penalty * np.square(found)).sum()), slope.ravel()

    best = minimized(loss_and_slope, first.ravel(), max(GRADIENT * l2, SMALLEST_GRADIENT)).reshape(-1, n_present)
    kernel[:, present] = best[: len(kernel)]
    if loss.fits_bias:
        bias[present] = best[-1]
    return kernel, bias


def minimized(loss_and_slope: Callable[[Doubles], tuple[float, Doubles]], start: Doubles, gradient: float) -> Doubles:
    """Minimize by L-BFGS.

    Args:
        loss_and_slope: Parameters [n] -> loss and its slope [n].
        start: Parameters to start from [n].
        gradient: Largest slope at the end.

    Returns:
        The best parameters [n].
    """
    options = {"maxiter": MAX_ITERATIONS, "maxfun": 2 * MAX_ITERATIONS, "gtol": gradient, "ftol": 0.0}
    return minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", options=options).x
