"""Thresholds show the wanted precision or are not given; their intervals cover in simulated deployments."""

import numpy as np
import pytest
from deployments import Deployment, coverage

from birdnet_fs.analysis.calibration.thresholds import choose_thresholds
from birdnet_fs.core.errors import UserError


def perfect(n_recordings, n_windows=10):
    """Scores that separate one class without a mistake, and another that says nothing."""
    rng = np.random.default_rng(0)
    y = (rng.random((n_recordings * n_windows, 2)) < 0.3).astype(int)
    scores = np.where(y > 0, rng.uniform(0.8, 1, y.shape), rng.uniform(0, 0.5, y.shape))
    scores[:, 1] = rng.random(len(y))
    return scores.astype(np.float32), y, np.repeat(np.arange(n_recordings), n_windows)


def test_a_class_without_mistakes_has_its_lowest_positive_as_threshold():
    scores, y, groups = perfect(40)
    right, wrong = choose_thresholds(scores, y, groups, [0.9])[0.9]
    assert right.threshold == pytest.approx(scores[y[:, 0] > 0, 0].min())
    assert right.precision == right.recall == right.high == 1 and right.low > 0.9
    assert right.n_detections == y[:, 0].sum() and right.n_recordings > 30
    assert wrong.threshold is None and "at most 0." in wrong.reason and "with 80% confidence" in wrong.reason


def test_few_recordings_show_nothing_however_many_windows_they_have():
    scores, y, groups = perfect(2, 500)
    assert all(each.threshold is None for each in choose_thresholds(scores, y, groups, [0.6])[0.6])


def test_three_right_detections_of_three_do_not_show_a_precision_of_070():
    scores = np.array([[0.9], [0.9], [0.9], [0.1], [0.1], [0.1], [0.1]], np.float32)
    y, groups = (scores > 0.5).astype(int), np.arange(7)
    low, high = choose_thresholds(scores, y, groups, [0.55, 0.7]).values()
    assert low[0].threshold is not None and high[0].threshold is None
    assert "at most 0.58" in high[0].reason  # 0.2 to the power of 1/3


def test_a_weak_network_with_few_recordings_has_hardly_a_threshold():
    found = coverage(Deployment(n_recordings=10, loudness=-0.5), n=30, n_true=2000)
    assert found.given < 0.08  # Wilson's interval gives 0.16, none of which reach the precision


def test_a_class_that_was_not_labeled_has_no_threshold():
    scores, y, groups = perfect(40)
    y[:, 0] = 0
    assert choose_thresholds(scores, y, groups, [0.9])[0.9][0].reason == "no labeled window has it"


def test_a_higher_precision_never_lowers_the_threshold():
    for seed in range(5):
        chosen = choose_thresholds(*Deployment(n_recordings=80).draw(np.random.default_rng(seed)), (0.7, 0.8, 0.9))
        for each in zip(*chosen.values(), strict=True):
            given = [np.inf if one.threshold is None else one.threshold for one in each]
            assert given == sorted(given)


@pytest.mark.parametrize(("precision", "confidence"), [(0, 0.8), (1, 0.8), (0.9, 0.4), (0.9, 1)])
def test_values_out_of_range_are_refused(precision, confidence):
    with pytest.raises(UserError, match="must be"):
        choose_thresholds(np.zeros((1, 1)), np.zeros((1, 1)), [0], [precision], confidence=confidence)


@pytest.mark.slow
@pytest.mark.parametrize(
    "deployment",
    [Deployment(), Deployment(n_recordings=20), Deployment(spread=0, neighbors=0), Deployment(n_windows=40, spread=1)],
    ids=["50 recordings", "20 recordings", "without neighbors", "long recordings"],
)
def test_intervals_cover_in_93_to_97_percent_of_a_thousand_deployments(deployment):
    found = coverage(deployment, n=1000)
    # about 8,000 intervals, of which those of one deployment are correlated: one standard error is below .005
    assert 0.93 - 0.01 <= found.covered <= 0.97 + 0.01, found
    assert found.reached > 0.8 - 0.02 and found.given > 0.4  # reached: the confidence of the thresholds
