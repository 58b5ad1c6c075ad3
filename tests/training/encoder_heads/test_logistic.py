"""Logistic regression against scikit-learn, and what scikit-learn does not have: masks, soft targets."""

import numpy as np
import pytest
import tolerances
from sklearn.linear_model import LogisticRegression

from birdnet_fs.training.encoder_heads.logistic import CrossEntropy, fit_logistic

RNG = np.random.default_rng(0)


def problem(n: int, width: int, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, labels = RNG.standard_normal((n, width)), np.arange(n) % n_classes
    x[np.arange(n), labels] += 1
    weights = RNG.uniform(0.1, 1, n)
    return x, np.eye(n_classes)[labels], weights / weights.sum()


def fit(x, targets, weights, l2, *, multi_label, class_weights=None, start=None):
    loss = CrossEntropy(targets, weights, multi_label, class_weights, (targets > 0).any(0))
    return fit_logistic(x, loss, l2, start=start)


@pytest.mark.parametrize("width", [6, 60])
@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_softmax_equals_scikit_learn(width, l2):
    x, targets, weights = problem(40, width, 3)
    kernel, bias = fit(x, targets, weights, l2, multi_label=False)
    reference = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=5000, solver="newton-cg")
    reference.fit(x, targets.argmax(1), sample_weight=weights)
    np.testing.assert_allclose(kernel, reference.coef_.T, atol=tolerances.LOGISTIC)
    np.testing.assert_allclose(
        bias - bias.mean(), reference.intercept_ - reference.intercept_.mean(), atol=tolerances.LOGISTIC
    )


@pytest.mark.parametrize("width", [6, 60])
def test_each_class_alone_equals_scikit_learn_with_class_weights_and_masks(width):
    x, targets, weights = problem(40, width, 3)
    targets[::3, 1] = -1
    factor = np.array([1.0, 2.5, 0.5])
    kernel, bias = fit(x, targets, weights, 1e-2, multi_label=True, class_weights=factor)
    for c in range(3):
        known = targets[:, c] >= 0
        rows = weights[known] / weights[known].sum() * np.where(targets[known, c] > 0, factor[c], 1)
        reference = LogisticRegression(C=100, tol=1e-8, max_iter=5000, fit_intercept=False)
        reference.fit(x[known], targets[known, c], sample_weight=rows)
        np.testing.assert_allclose(kernel[:, c], reference.coef_[0], atol=tolerances.LOGISTIC)
    assert not bias.any()  # it comes from the calibration


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_soft_target_is_a_clip_of_both_classes(multi_label):
    x, targets, weights = problem(30, 5, 3)
    soft = targets.copy()
    soft[0] = [0.3, 0.7, 0.0]
    two = np.concatenate([x, x[:1]]), np.concatenate([targets, targets[:1]]), np.append(weights, 0.7 * weights[0])
    two[1][0], two[1][-1], two[2][0] = [1, 0, 0], [0, 1, 0], 0.3 * weights[0]
    a = fit(x, soft, weights, 1e-2, multi_label=multi_label)
    b = fit(*two, 1e-2, multi_label=multi_label)
    np.testing.assert_allclose(a[0], b[0], atol=tolerances.LOGISTIC)


def test_start_does_not_change_the_result_and_absent_classes_have_a_low_bias():
    x, targets, weights = problem(30, 50, 3)
    targets = np.column_stack([targets[:, 0], np.zeros(30), targets[:, 1:]])
    for multi_label in (False, True):
        kernel, bias = fit(x, targets, weights, 1e-2, multi_label=multi_label)
        again = fit(
            x, targets, weights, 1e-2, multi_label=multi_label, start=(RNG.standard_normal(kernel.shape), bias + 1)
        )
        np.testing.assert_allclose(again[0], kernel, atol=tolerances.LOGISTIC)
        assert not kernel[:, 1].any() and bias[1] == pytest.approx(-np.log(31))
