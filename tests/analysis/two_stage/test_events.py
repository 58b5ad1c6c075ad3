"""Events of windows against brute force over the definitions."""

import numpy as np
import pytest

from birdnet_fs.analysis.two_stage.events import Event, clean_events, merge_windows, slice_events
from birdnet_fs.analysis.two_stage.windows import WindowPredictions, call_probabilities, log_classes, predict_windows

L, HOP = 0.8, 0.1


def drawn(seed, n=60):
    rng = np.random.default_rng(seed)
    index, value = rng.integers(0, 3, n), rng.random(n).astype(np.float32)
    detected = (value >= 0.5) & (index != 1)
    starts = np.arange(n) * HOP
    return np.stack([starts, starts + L], axis=1), WindowPredictions(index, value, detected)


@pytest.mark.parametrize("seed", range(5))
def test_merged_windows_equal_brute_force(seed):
    spans, found = drawn(seed)
    wanted = []
    for label in (0, 2):
        numbers = [i for i in range(len(spans)) if found.detected[i] and found.class_index[i] == label]
        while numbers:
            run = [numbers.pop(0)]
            while numbers and numbers[0] - run[-1] <= 8:  # a gap of one hop is not below a hop
                run.append(numbers.pop(0))
            mean = np.mean([float(found.probability[i]) for i in run])
            wanted.append((spans[run[0], 0], spans[run[-1], 1], label, pytest.approx(mean, rel=1e-12)))
    assert [tuple(each[:4]) for each in merge_windows(spans, found, HOP)] == sorted(wanted, key=lambda w: (w[0], w[2]))


@pytest.mark.parametrize("seed", range(5))
def test_slices_equal_brute_force(seed):
    spans, found = drawn(seed)
    labels, values = [], []
    for k in range(round(spans[-1, 1] / 0.05)):
        middle = (k + 0.5) * 0.05
        inside = [i for i in range(len(spans)) if spans[i, 0] <= middle < spans[i, 1]]
        best = max(inside, key=lambda i: (found.probability[i], -i))
        labels.append(int(found.class_index[best]) if found.detected[best] else -1)
        values.append(float(found.probability[best]))
    wanted, k = [], 0
    while k < len(labels):
        end = k
        while end < len(labels) and labels[end] == labels[k]:
            end += 1
        if labels[k] >= 0:
            wanted.append((k * 0.05, end * 0.05, labels[k], np.mean(values[k:end])))
        k = end
    events = slice_events(spans, found, HOP, (1,))
    assert [each.class_index for each in events] == [each[2] for each in wanted]
    np.testing.assert_allclose([each[:2] for each in events], [each[:2] for each in wanted], atol=1e-9)
    np.testing.assert_allclose([each[3] for each in events], [each[3] for each in wanted], rtol=1e-6)


def test_short_events_are_left_out_before_gaps_are_closed():
    events = [
        Event(0.0, 0.1, 0, 1.0, 2),
        Event(0.2, 0.25, 0, 1.0),  # too short
        Event(0.3, 0.5, 2, 0.9),  # another class
        Event(0.249, 0.4, 0, 0.4, 1),  # a gap of 0.149 s
        Event(0.55, 0.7, 0, 0.9),  # a gap of 0.15 s is not below 0.15 s
    ]
    found = clean_events(sorted(events), 0.1, 0.15)
    assert found == [Event(0.0, 0.4, 0, pytest.approx(0.8), 3), Event(0.3, 0.5, 2, 0.9), Event(0.55, 0.7, 0, 0.9)]


def test_call_probability_is_the_complement_of_noise():
    scores = np.array([[0.2, 0.5, 0.3]], np.float32)
    assert call_probabilities(scores, ("noise", "owl", "background")) == pytest.approx(0.5)
    assert call_probabilities(scores[:, :1], ("owl",)) == pytest.approx(0.2)


def test_classifier_without_noise_gets_one_in_the_log():
    classes = log_classes(("a", "b"))
    assert classes.names == ("a", "b", "noise") and classes.noise == (2,) and not classes.is_binary
    passed = np.array([True, False])
    found = predict_windows(np.array([[0.1, 0.9]], np.float32), np.array([1, 0.25], np.float32), passed, classes, 0.85)
    assert found.class_index.tolist() == [1, 2] and found.detected.tolist() == [True, False]
    assert found.probability.tolist() == pytest.approx([0.9, 0.75])
    only = log_classes(("call",))
    found = predict_windows(np.array([[0.9], [0.5]], np.float32), None, np.array([True, True]), only, 0.85)
    assert (
        only.is_binary
        and found.class_index.tolist() == [0, 1]
        and found.probability.tolist() == pytest.approx([0.9, 0.5])
    )
