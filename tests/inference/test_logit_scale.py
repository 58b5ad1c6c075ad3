"""Platt's targets by hand, and the scale by brute force."""

import numpy as np
import pytest
from scipy.special import log_softmax

from birdnet_fs.inference.logit_scale import best_scale, sigmoid_targets, softmax_targets


def test_targets_of_platt():
    targets = np.eye(3)[[0, 1, 2, 0]]
    np.testing.assert_allclose(softmax_targets(targets), np.where(targets > 0, 5 / 6, 1 / 12))
    np.testing.assert_allclose(softmax_targets(np.ones((4, 1))), np.ones((4, 1)))
    known = np.ones((4, 3), bool)
    known[3, 0] = False
    of_class = sigmoid_targets(targets, known)[:, 0]
    np.testing.assert_allclose(of_class[:3], [2 / 3, 1 / 4, 1 / 4])


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_scale_has_the_lowest_cross_entropy(unit):
    rng = np.random.default_rng(0)
    targets = np.eye(4)[rng.integers(0, 4, 30)]
    similarities = unit * (targets + rng.standard_normal((30, 4)))
    scale = best_scale(similarities, targets)

    def cost(scale):
        return -(softmax_targets(targets) * log_softmax(scale * similarities, axis=1)).sum()

    assert cost(scale) < min(cost(scale * 1.01), cost(scale / 1.01))
    assert best_scale(np.ones((3, 4)), targets[:3]) == 1
