"""Threshold, top n and merged windows against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.analysis.detections import WindowDetection, merge_detections, pick_detections


@given(
    st.integers(0, 4),
    st.floats(0, 1, width=32),
    st.sets(st.integers(0, 4), min_size=1).map(sorted),
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5), max_size=6),
    st.sets(st.integers(0, 4), max_size=2),
)
def test_pick_detections_equals_brute_force(top_n, min_confidence, allowed, rows, no_call):
    probabilities = np.array(rows, np.float32).reshape(-1, 5)
    given = {"min_confidence": min_confidence, "top_n": top_n, "allowed": allowed, "no_call": no_call}
    found = pick_detections(probabilities, **given, first_window=3)
    wanted = []
    for number, row in enumerate(rows, 3):
        ranked = sorted((-row[index], index) for index in allowed)[: top_n or None]
        wanted += [
            WindowDetection(number, number, index, -score)
            for score, index in ranked
            if -score >= min_confidence and index not in no_call
        ]
    assert found == wanted


def test_pick_detections_includes_the_threshold():
    scores = np.array([[0.1, 0.7, 0.3]], np.float32)  # 0.1, 0.7, 0.3 are not exact in float32: they must still count
    for threshold, wanted in ((0.1, [1, 2, 0]), (0.3, [1, 2]), (0.7, [1])):
        found = pick_detections(scores, min_confidence=threshold, top_n=0, allowed=range(3))
        assert [each.class_index for each in found] == wanted


@given(st.integers(0, 4), st.lists(st.sets(st.integers(0, 2)), max_size=12))
def test_merge_detections_equals_brute_force(limit, windows_classes):
    def score(window, index):
        return ((window * 7 + index * 3) % 10) / 10

    found = [
        WindowDetection(w, w, c, score(w, c)) for w, classes in enumerate(windows_classes) for c in sorted(classes)
    ]
    wanted = []
    for index in range(3):
        present = [w for w, classes in enumerate(windows_classes) if index in classes]
        while present:
            run = [present.pop(0)]
            while present and present[0] == run[-1] + 1 and (limit == 0 or len(run) < limit):
                run.append(present.pop(0))
            wanted.append(WindowDetection(run[0], run[-1], index, max(score(w, index) for w in run)))
    assert merge_detections(found, limit) == sorted(wanted, key=lambda h: (h.first, -h.confidence, h.class_index))


def test_each_class_may_have_a_threshold_of_its_own():
    probabilities = np.array([[0.6, 0.6, 0.6], [0.4, 0.9, 0.7]], np.float32)
    limits = np.array([0.5, np.inf, 0.7], np.float32)
    found = pick_detections(probabilities, min_confidence=limits, top_n=0, allowed=(0, 1, 2))
    assert [(each.first, each.class_index) for each in found] == [(0, 0), (1, 2)]
    found = pick_detections(probabilities, min_confidence=limits, top_n=0, allowed=(2, 1))
    assert [(each.first, each.class_index) for each in found] == [(1, 2)]
