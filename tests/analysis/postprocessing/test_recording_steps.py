"""Steps on the scores of a recording, against scipy and plain loops."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d

from birdnet_fs.analysis.postprocessing.recording_steps import KERNEL, delta, file_topk, smooth, tail_power

SCORES = np.random.default_rng(0).random((9, 5)).astype(np.float32)
ONE_WINDOW = SCORES[:1]


@pytest.mark.parametrize("kernel", [KERNEL, (1.0, 2.0, 1.0), (0.0, 1.0, 3.0), (1.0,)])
def test_smooth_is_a_weighted_mean_with_repeated_ends(kernel):
    weights = np.array(kernel) / np.sum(kernel)
    expected = convolve1d(SCORES.astype(np.float64), weights[::-1], axis=0, mode="nearest")
    np.testing.assert_allclose(smooth(SCORES, kernel), expected, atol=1e-7)  # one rounding to float32
    np.testing.assert_allclose(smooth(ONE_WINDOW, kernel), ONE_WINDOW, atol=1e-7)


def test_delta_moves_uncertain_windows_only():
    certain = SCORES.copy()
    certain[4, 2] = 1
    found = delta(certain, 0.4)
    np.testing.assert_array_equal(found[4], certain[4])
    for t in range(9):
        before, after = certain[max(t - 1, 0)], certain[min(t + 1, 8)]
        share = 0.4 * (1 - certain[t].max())
        np.testing.assert_allclose(found[t], (1 - share) * certain[t] + share * (before + after) / 2, atol=1e-7)


@pytest.mark.parametrize(("k", "power"), [(1, 1.0), (2, 0.4), (100, 2.0)])
def test_file_topk_multiplies_by_the_mean_of_the_highest(k, power):
    for c in range(5):
        highest = sorted(SCORES[:, c].tolist(), reverse=True)[:k]
        expected = SCORES[:, c] * np.mean(highest) ** power
        np.testing.assert_allclose(file_topk(SCORES, k, power)[:, c], expected, rtol=1e-6)


def test_tail_power_leaves_the_top_classes():
    order = np.argsort(-SCORES.max(axis=0))
    found = tail_power(SCORES, top=2, power=3)
    np.testing.assert_array_equal(found[:, order[:2]], SCORES[:, order[:2]])
    np.testing.assert_allclose(found[:, order[2:]], SCORES[:, order[2:]] ** 3, rtol=1e-6)
    np.testing.assert_array_equal(tail_power(SCORES, top=30), SCORES)


@pytest.mark.parametrize("step", [smooth, delta, file_topk, tail_power])
def test_steps_keep_shape_type_range_and_their_input(step):
    before = SCORES.copy()
    for given in (SCORES, ONE_WINDOW, np.ones((3, 2), np.float32), np.zeros((3, 2), np.float32)):
        found = step(given)
        assert found.shape == given.shape and found.dtype == np.float32
        assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_array_equal(SCORES, before)
