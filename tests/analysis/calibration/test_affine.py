"""Slope and offset against scipy's minimizer and scikit-learn's logistic regression."""

import numpy as np
import pytest
import tolerances
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from birdnet_fs.analysis.calibration.affine import Prior, fit_affine, fit_shared, log_loss

RNG = np.random.default_rng(0)
SLOPES, OFFSETS = np.array([0.4, 1.0, 2.5]), np.array([-1.0, 0.5, 2.0])
Y = (RNG.random((600, 3)) < [0.05, 0.3, 0.6]).astype(float)
X = (RNG.normal(0, 1, (600, 3)) + 3 * Y - 1.5 - OFFSETS) / SLOPES


@pytest.mark.parametrize("prior", [Prior(0.25, 1), Prior(1, 0), Prior(0, 2)])
@pytest.mark.parametrize("with_offset", [True, False])
def test_the_most_probable_map_is_that_of_a_general_minimizer(prior, with_offset):
    center = (0.2, -0.5 if with_offset else 0.0)
    slope, offset = fit_affine(X, Y, center=center, prior=prior, with_offset=with_offset)
    for c in range(3):

        def objective(v, c=c):
            a = v[0] if prior.log_slope else center[0]
            b = v[1] if prior.offset and with_offset else center[1]
            z = np.exp(a) * X[:, c] + b
            penalty = sum(
                ((value - middle) / width) ** 2 / 2
                for value, middle, width in zip((a, b), center, prior, strict=True)
                if width
            )
            return (np.logaddexp(0, z) - Y[:, c] * z).sum() + penalty

        found = minimize(objective, center, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11})
        assert objective((np.log(slope[c]), offset[c])) <= found.fun + tolerances.MAP_OBJECTIVE


def test_a_wide_prior_gives_logistic_regression():
    slope, offset = fit_affine(X, Y, center=(0.0, 0.0), prior=Prior(1e3, 1e3))
    for c in range(3):
        model = LogisticRegression(C=1e9, tol=1e-9, max_iter=1000).fit(X[:, c : c + 1], Y[:, c])
        assert slope[c] == pytest.approx(model.coef_[0, 0], rel=tolerances.MAP_COEFFICIENTS)
        assert offset[c] == pytest.approx(model.intercept_[0], rel=tolerances.MAP_COEFFICIENTS)


def test_a_class_with_few_rows_stays_nearer_to_the_shared_map():
    few, many = (
        fit_affine(np.repeat(X[:30], n, 0), np.repeat(Y[:30], n, 0), center=(0.0, 0.0), prior=Prior(0.25, 1))[0]
        for n in (1, 50)
    )
    assert (np.abs(np.log(few)) < np.abs(np.log(many))).all()


def test_separable_and_constant_scores_have_finite_maps():
    separable = np.where(Y > 0, 20.0, -20.0)
    steep = np.where(Y > 0, 0.05, -0.05)
    steep[0] = np.where(Y[0] > 0, 30, -30)  # the slope of the others makes it larger than exp takes
    for x in (separable, steep, np.zeros_like(X), 1e4 * X):
        with np.errstate(over="raise"):
            slope, offset = fit_affine(x, Y, center=fit_shared(x, Y), prior=Prior(1, 2))
        assert np.isfinite(slope).all() and np.isfinite(offset).all() and (slope > 0).all()


def test_log_loss_is_the_cross_entropy():
    from sklearn.metrics import log_loss as reference

    for c in range(3):
        expected = reference(Y[:, c], 1 / (1 + np.exp(-X[:, c])), normalize=False)
        assert log_loss(X, Y)[c] == pytest.approx(expected, rel=1e-6)  # the reference clips probabilities
