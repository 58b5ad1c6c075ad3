"""Bootstrap intervals: groups are drawn whole, and the intervals cover the true value as often as they should."""

import numpy as np
import pytest
import tolerances
from random_scores import drawn

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.bootstrap import bootstrap


def value_of(targets, scores):
    return macro_auroc(targets, scores).value


def test_bootstrap_holds_the_estimate_shrinks_with_n_and_repeats():
    widths = []
    for n_groups in (20, 80, 320):
        targets, scores = drawn(n_groups * 3, 3, 0.3, "logits", seed=7)
        groups = np.repeat([f"rec{g}" for g in range(n_groups)], 3)
        found = bootstrap(value_of, targets, scores, groups, n_draws=200, seed=1)
        assert found.low <= found.value <= found.high
        assert found == bootstrap(value_of, targets, scores, groups, n_draws=200, seed=1)
        widths.append(found.high - found.low)
    assert widths[0] > widths[1] > widths[2] > 0


def test_bootstrap_draws_groups_not_rows():
    targets, scores = drawn(60, 3, 0.3, "logits", seed=8)
    one = bootstrap(value_of, targets, scores, np.arange(60), n_draws=200)
    # the same 60 rows ten times over hold no more information, as long as the copies are drawn together
    ten = bootstrap(
        value_of,
        np.repeat(targets, 10, axis=0),
        np.repeat(scores, 10, axis=0),
        np.repeat(np.arange(60), 10),
        n_draws=200,
    )
    assert ten.value == pytest.approx(one.value)
    assert (ten.high - ten.low) == pytest.approx(one.high - one.low, rel=tolerances.SAME_DRAWS)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    inside = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 2, 150)[:, None]
        found = bootstrap(value_of, truth, rng.standard_normal((150, 1)) + truth, np.arange(150), n_draws=200)
        inside += found.low <= 0.76025 <= found.high  # the normal distribution function at 1 / sqrt(2)
    assert tolerances.COVERAGE_OF_100[0] <= inside <= tolerances.COVERAGE_OF_100[1]


def test_bootstrap_of_one_group_is_undefined_and_lengths_must_agree():
    targets, scores = drawn(10, 2, 0.3, "logits", seed=0)
    assert np.isnan(bootstrap(value_of, targets, scores, ["a"] * 10).low)
    with pytest.raises(UserError, match="10, 10 and 9"):
        bootstrap(value_of, targets, scores, ["a"] * 9)
