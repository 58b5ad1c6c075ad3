"""Multinomial and one-vs-rest logistic regression with soft targets, masks and class weights, by L-BFGS.

scikit-learn's `LogisticRegression` minimizes the same function for hard targets without masks (a test compares them);
it takes neither soft targets nor unknown ones. The squared weights are regularized and the bias is not.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

Doubles = NDArray[np.float64]
MAX_ITERATIONS = 1000
GRADIENT = 1e-4  # largest slope at the end over l2, about the largest error of a weight; losses are of order 1
SMALLEST_GRADIENT = 1e-10


def fit_logistic(
    x: NDArray,
    targets: NDArray,
    weights: Doubles,
    l2: float,
    *,
    multi_label: bool,
    class_weights: NDArray | None = None,
    start: tuple[Doubles, Doubles] | None = None,
) -> tuple[Doubles, Doubles]:
    """Minimize the weighted mean cross-entropy plus l2 / 2 x the squared weights.

    With `multi_label`, each class is a problem of its own: the mean over the rows whose target of this class is known.
    Otherwise targets below 0 count as 0.

    Args:
        x: Embeddings [n, width].
        targets: [n, n_classes], 0..1; below 0 = unknown.
        weights: Weight of each row [n], 0 or more.
        l2: Regularization, 0 or more.
        multi_label: Sigmoid for each class, else one softmax.
        class_weights: [n_classes], factor of the loss of the positives of each class. None: 1.
        start: Kernel and bias to start from. None: zeros.

    Returns:
        Kernel [width, n_classes] and bias [n_classes]. A class without a positive, or all of whose targets are unknown,
        has a kernel of zeros and the bias -log(n + 1), where n is the number of rows whose target is known.
    """
    x, t = np.asarray(x, np.float64), np.clip(targets, 0, None).astype(np.float64)
    known = np.asarray(targets) >= 0 if multi_label else np.ones_like(t, bool)
    present = (t * weights[:, None]).sum(0) > 0
    kernel, bias = np.zeros((x.shape[1], t.shape[1])), -np.log(known.sum(0) + 1.0)
    if not present.any():
        return kernel, bias
    factor = np.ones(t.shape[1]) if class_weights is None else np.asarray(class_weights, np.float64)
    t, known, factor = t[:, present], known[:, present], factor[present]
    n, width, m = len(x), x.shape[1], t.shape[1]
    basis = None
    if n < width:  # the kernel lies in the span of the rows
        basis, rows = np.linalg.qr(x.T)
        x = np.ascontiguousarray(rows.T)
    share = weights[:, None] * known
    share = share / (share.sum(0) if multi_label else weights.sum())
    first = np.zeros((x.shape[1] + 1, m))
    if start is not None:
        first[:-1] = start[0][:, present] if basis is None else basis.T @ start[0][:, present]
        first[-1] = start[1][present]

    def loss_and_slope(flat: Doubles) -> tuple[float, Doubles]:
        found = flat.reshape(-1, m)
        z = x @ found[:-1] + found[-1]
        if multi_label:
            both = 1 - t + factor * t
            loss = (share * (both * np.logaddexp(0, z) - factor * t * z)).sum()
            residual = share * (both * expit(z) - factor * t)
        else:
            log_p, wanted = log_softmax(z, axis=1), factor * t
            loss = -(share * wanted * log_p).sum()
            residual = share * (np.exp(log_p) * wanted.sum(1, keepdims=True) - wanted)
        slope = np.concatenate([x.T @ residual + l2 * found[:-1], residual.sum(0, keepdims=True)])
        return float(loss + l2 / 2 * np.square(found[:-1]).sum()), slope.ravel()

    options = {
        "maxiter": MAX_ITERATIONS,
        "maxfun": 2 * MAX_ITERATIONS,
        "gtol": max(GRADIENT * l2, SMALLEST_GRADIENT),
        "ftol": 0.0,
    }
    best = minimize(loss_and_slope, first.ravel(), jac=True, method="L-BFGS-B", options=options).x.reshape(-1, m)
    kernel[:, present] = best[:-1] if basis is None else basis @ best[:-1]
    bias[present] = best[-1]
    return kernel, bias
