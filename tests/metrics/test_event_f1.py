"""The event F-measure against cases worked out by hand, and the pairing against other ways of finding it."""

import itertools

import numpy as np
import pytest
import tolerances
from scipy.optimize import linear_sum_assignment

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.event_f1 import LOWEST, EventCounts, count_events, event_scores, match_events, mean_over_sets

SUPPORT = [[i, i + 0.5] for i in range(5)]


def times(rng: np.random.Generator, n: int, span: float) -> np.ndarray:
    onsets = rng.uniform(0, span, n)
    return np.stack([onsets, onsets + rng.uniform(0.1, 2.0, n)], axis=1)


def near(events: np.ndarray, detections: np.ndarray) -> np.ndarray:
    """[n, m]: intersection over union above .3, pair by pair."""
    table = np.zeros((len(events), len(detections)), bool)
    for i, j in itertools.product(range(len(events)), range(len(detections))):
        both = min(events[i, 1], detections[j, 1]) - max(events[i, 0], detections[j, 0])
        either = max(events[i, 1], detections[j, 1]) - min(events[i, 0], detections[j, 0])
        table[i, j] = both > 0 and both / either > 0.3
    return table


def test_a_recording_worked_out_by_hand():
    """Five support events, then:

    event 10-12    detection 10.5-12.5: 1.5 of 2.5 s, a hit
    event 20-21    detections 20-20.2 (.2, too little) and 20.1-21.4 (.9 of 1.4, a hit)
    event 30-31    nothing: missed
    event 40-44    one detection 40-43.9 and, inside it, 41-42 (.25): one hit, one false
    unsure 50-51   detections 50-51 and 50.1-51: one pardoned, one false
    no event       detection 60-61: false
    """
    events = [*SUPPORT, [10, 12], [20, 21], [30, 31], [40, 44]]
    detections = [[10.5, 12.5], [20, 20.2], [20.1, 21.4], [40, 43.9], [41, 42], [50, 51], [50.1, 51], [60, 61]]
    counts = count_events(events, detections, [[50, 51], [2.1, 2.2]])
    assert counts == EventCounts(true_positive=3, false_positive=4, false_negative=1)
    found = event_scores(counts)
    assert (found.precision, found.recall) == (3 / 7, 3 / 4)
    assert found.f_measure == pytest.approx(2 * (3 / 7) * (3 / 4) / (3 / 7 + 3 / 4), abs=tolerances.EXACT_METRIC)


def test_the_support_counts_nowhere():
    events = [*SUPPORT, [10, 12]]
    assert count_events(events[::-1], [[10, 12]]) == EventCounts(true_positive=1)  # in any order
    assert count_events(events, []) == EventCounts(false_negative=1)
    assert count_events(events, [[4, 4.5]]) == EventCounts(
        false_positive=1, false_negative=1
    )  # a detection of the support is no merit
    assert count_events(events, [[3, 3.5]], [[3, 3.5]]) == EventCounts(
        false_positive=1, false_negative=1
    )  # what was unsure there is gone too
    assert count_events(events, [[0, 0.5], [10, 12]], n_shots=0) == EventCounts(true_positive=2, false_negative=4)


def test_three_tenths_are_too_little_and_more_is_enough():
    assert len(match_events([[0, 10]], [[0, 3]])) == 0
    assert len(match_events([[0, 10]], [[0, 3.001]])) == 1
    assert len(match_events([[0, 10]], [[0, 5]], min_iou=0.5)) == 0


def test_as_many_pairs_as_can_be():
    """The detection that fits both events must take the one that no other fits."""
    events, detections = [[0, 10], [6, 16]], [[2, 12], [0, 9]]
    assert match_events(events, detections).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("seed", range(30))
def test_pairs_are_as_many_as_the_best_of_all_ways(seed):
    rng = np.random.default_rng(seed)
    events, detections = times(rng, rng.integers(0, 6), 4.0), times(rng, rng.integers(0, 6), 4.0)
    table = near(events, detections)
    best = 0
    for chosen in itertools.permutations([*range(len(detections)), *[-1] * len(events)], len(events)):
        best = max(best, sum(j >= 0 and table[i, j] for i, j in enumerate(chosen)))
    pairs = match_events(events, detections)
    assert len(pairs) == best
    assert all(table[i, j] for i, j in pairs)
    assert len(set(pairs[:, 0].tolist())) == len(set(pairs[:, 1].tolist())) == best


def test_pairs_of_many_overlapping_events():
    rng = np.random.default_rng(0)
    events, detections = times(rng, 300, 120.0), times(rng, 350, 120.0)
    table = near(events, detections)
    rows, columns = linear_sum_assignment(table, maximize=True)
    assert len(match_events(events, detections)) == table[rows, columns].sum() > 150


def test_sets_are_joined_by_the_harmonic_mean():
    overall = mean_over_sets(
        [EventCounts(true_positive=1, false_positive=1, false_negative=1), EventCounts(true_positive=2)]
    )
    assert overall.precision == overall.recall == overall.f_measure == pytest.approx(2 / (1 / 0.5 + 1 / 1.0))
    assert mean_over_sets(
        [EventCounts(true_positive=5), EventCounts(false_positive=3, false_negative=2)]
    ).f_measure == pytest.approx(2 / (1 + 1 / LOWEST))
    assert event_scores(sum([EventCounts(1, 0, 2), EventCounts(2, 1, 0)], EventCounts())) == event_scores(
        EventCounts(3, 1, 2)
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: count_events(SUPPORT[:4], []), r"first 5 events of a recording.*Received: 4 events"),
        (
            lambda: count_events(SUPPORT, [[3, 2]]),
            r"detections must each have .*a later offset. Received: \[3.0, 2.0\] in row",
        ),
        (lambda: count_events(SUPPORT, [[3, np.nan]]), r"finite onset"),
        (lambda: match_events([1, 2], []), r"events must be \[n, 2\].*Received: \(2,\)"),
        (lambda: mean_over_sets([]), r"Received: none"),
    ],
)
def test_what_is_no_time_is_said(call, message):
    with pytest.raises(UserError, match=message):
        call()
