"""Calibration error against scikit-learn's calibration curve and a loop; intervals draw recordings."""

import numpy as np
import pytest
import tolerances
from sklearn.calibration import calibration_curve

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.calibration_error import RARE_BELOW, calibration_error, calibration_summary, reliability_bins

RNG = np.random.default_rng(3)
P = RNG.beta(0.5, 1.5, (400, 3))
TARGETS = (RNG.random((400, 3)) < P ** [1.0, 2.0, 0.5]).astype(int)  # right, too high, too low


def test_ece_is_that_of_the_calibration_curve_of_scikit_learn():
    found = calibration_error(TARGETS, P)
    for c in range(3):
        share, mean = calibration_curve(TARGETS[:, c], P[:, c], n_bins=10, strategy="uniform")
        n = np.histogram(P[:, c], bins=np.linspace(0, 1, 11))[0]
        gaps = mean - share
        weights = n[n > 0] / n.sum()
        assert found.ece[c] == pytest.approx(weights @ np.abs(gaps), abs=tolerances.FLOAT64_SUMS)
        assert found.over[c] == pytest.approx(weights @ np.maximum(gaps, 0), abs=tolerances.FLOAT64_SUMS)
    assert found.over[1] > 3 * found.under[1] and found.under[2] > 3 * found.over[2]
    assert found.n_positives.tolist() == TARGETS.sum(axis=0).tolist()


def test_bins_hold_every_row_once_and_one_is_in_the_last():
    bins = reliability_bins([[1], [0], [1], [0]], [[1.0], [0.0], [0.1], [0.95]])
    assert bins.n[0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert bins.positives[0].tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]


def test_summary_separates_rare_classes_and_draws_recordings():
    targets, p = TARGETS.copy(), P.copy()
    targets[60:, 1] = 0
    assert 0 < targets[:, 1].sum() < RARE_BELOW
    found = calibration_summary(targets, p, np.repeat(np.arange(40), 10), n_draws=200)
    ece = calibration_error(targets, p).ece
    assert found["rare"]["ece"].value == pytest.approx(ece[1])
    assert found["common"]["ece"].value == pytest.approx(ece[[0, 2]].mean())
    for part in ("ece", "over", "under"):
        one = found["all"][part]
        assert one.low <= one.value <= one.high
    # the same rows ten times in the same recordings are no more evidence
    again = calibration_summary(
        np.repeat(targets, 10, 0), np.repeat(p, 10, 0), np.repeat(np.repeat(np.arange(40), 10), 10), n_draws=200
    )
    assert again["all"]["ece"].high == pytest.approx(found["all"]["ece"].high)


def test_classes_that_do_not_occur_have_no_error():
    found = calibration_summary(np.zeros((4, 2), int), np.full((4, 2), 0.2), [0, 0, 1, 1], n_draws=100)
    assert np.isnan(found["all"]["ece"].value)


def test_targets_other_than_0_and_1_are_refused():
    with pytest.raises(UserError, match="must be 0 or 1"):
        calibration_error([[0.5]], [[0.5]])
