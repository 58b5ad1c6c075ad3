"""Fitted maps lower the calibration error on other recordings; isotonic steps are those of scikit-learn."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from birdnet_fs.analysis.calibration.fitting import MIN_RECORDINGS, fit_maps, isotonic_steps, recording_folds
from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.calibration_error import calibration_error


def windows(n_recordings=40, per_recording=20, n_classes=6, seed=0):
    """Log-odds that are too extreme or too tame, by class; the last class never occurs."""
    rng = np.random.default_rng(seed)
    n = n_recordings * per_recording
    y = (rng.random((n, n_classes)) < np.linspace(0.4, 0.02, n_classes)).astype(float)
    y[:, -1] = 0
    true = rng.normal(0, 1, (n, n_classes)) + 4 * y - 3
    return true * [3, 2, 1, 0.5, 0.3, 1] + [0, 1, 2, -1, 0, 0], y, np.repeat(np.arange(n_recordings), per_recording)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_held_out_scores_are_calibrated(method):
    x, y, groups = windows()
    found = fit_maps(x, y, groups, method)
    before, after = (calibration_error(y, expit(z)).ece[:-1].mean() for z in (x, found.held_out))
    assert after < before / 4
    other, truth, _ = windows(seed=1)
    assert calibration_error(truth, expit(found.maps(other))).ece[:-1].mean() < before / 4
    assert found.method[-1] == "shared" and "shared" not in found.method[:-1]
    assert set(found.maps.steps) == ({c for c in range(5) if y[:, c].sum() >= 50} if method == "isotonic" else set())


def test_temperature_has_no_offset_and_leaves_the_sign():
    x, y, groups = windows()
    found = fit_maps(x, y, groups, "temperature")
    assert (found.maps.offset == 0).all() and len(set(found.maps.slope)) > 3


def test_equal_classes_get_the_shared_map_and_different_ones_their_own():
    rng = np.random.default_rng(2)
    y = (rng.random((300, 8)) < 0.2).astype(float)
    equal = 2 * (rng.normal(0, 1, (300, 8)) + 3 * y - 2)
    groups = np.repeat(np.arange(30), 10)
    spread = [np.log(fit_maps(x, y, groups).maps.slope).std() for x in (equal, equal * np.geomspace(0.2, 5, 8))]
    assert spread[0] < 0.25 and spread[1] > 0.8


def test_a_recording_is_never_divided_and_no_fold_of_a_class_is_empty_where_it_can_be():
    _, y, groups = windows()
    folds = recording_folds(y, groups, 10, 0)
    assert all(len(set(folds[groups == g])) == 1 for g in range(40)) and set(folds) == set(range(10))
    rare = np.zeros((40, 1))
    rare[:10] = 1
    assert len(set(recording_folds(rare, np.arange(40), 10, 0)[:10])) == 10


def test_isotonic_steps_are_the_blocks_of_scikit_learn():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 2, 300).round(1)
    y = (rng.random(300) < expit(x)).astype(float)
    at, log_odds = isotonic_steps(x, y)
    expected = IsotonicRegression().fit(x, y).predict(x)
    blocks = np.unique(expected)
    n, k = (np.array([f(expected == value) for value in blocks]) for f in (np.sum, lambda rows: y[rows].sum()))
    np.testing.assert_allclose(expit(log_odds), (k + 0.5) / (n + 1), rtol=1e-9)
    np.testing.assert_allclose(at, [x[expected == value].mean() for value in blocks], rtol=1e-9)


@pytest.mark.parametrize(
    ("x", "y", "groups", "words"),
    [
        (np.zeros((20, 2)), np.eye(2)[np.arange(20) % 2], np.repeat(np.arange(2), 10), "Received: 2 recordings"),
        (np.zeros((20, 2)), np.zeros((20, 2)), np.arange(20), "with 0 such windows"),
        (np.zeros((20, 2)), np.ones((20, 2)), np.arange(20), "every labeled window has all"),
    ],
)
def test_too_few_labels_are_refused(x, y, groups, words):
    assert MIN_RECORDINGS > 2
    with pytest.raises(UserError, match=words):
        fit_maps(x, y, groups)


def test_an_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'platt'"):
        fit_maps(np.zeros((1, 1)), np.zeros((1, 1)), [0], "plat")
