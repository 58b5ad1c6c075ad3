"""Maps of log-odds: slope and offset, and steps; they never change the order of scores."""

import numpy as np
import pytest
import tolerances

from birdnet_fs.inference.calibration.maps import TILT, CalibrationMaps

STEPS = (np.array([-2.0, 0.0, 1.0]), np.array([-4.0, -4.0, 3.0]))
MAPS = CalibrationMaps(np.array([0.5, 1.0, 2.0]), np.array([-1.0, 0.0, 3.0]), {1: STEPS})
X = np.random.default_rng(0).normal(0, 4, (200, 3))


def test_maps_are_affine_or_interpolate_steps():
    found = MAPS(X)
    np.testing.assert_allclose(found[:, 0], X[:, 0] * 0.5 - 1, rtol=tolerances.FLOAT64_SUMS)
    np.testing.assert_allclose(found[:, 2], X[:, 2] * 2 + 3, rtol=tolerances.FLOAT64_SUMS)
    assert MAPS([[0, 0.5, 0]])[0, 1] == pytest.approx(-0.5 + TILT * 0.5)
    assert MAPS([[0, 9.0, 0]])[0, 1] == pytest.approx(3 + TILT * 9)


def test_maps_keep_the_order_of_different_scores():
    order = np.argsort(X, axis=0)
    assert (np.diff(np.take_along_axis(MAPS(X), order, axis=0), axis=0) > 0).all()


@pytest.mark.parametrize("c", [0, 1, 2])
def test_inverse_gives_the_score_of_the_model(c):
    for x in (-7.0, -1.5, 0.3, 0.9, 5.0):
        row = np.zeros((1, 3))
        row[0, c] = x
        assert MAPS.inverse(c, float(MAPS(row)[0, c])) == pytest.approx(x, abs=1e-6)  # the tilt divides roundings


def test_identity_changes_nothing():
    assert (CalibrationMaps(np.ones(3), np.zeros(3))(X) == X).all()
