"""Threshold, best n and joined windows against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.analysis.detections import WindowDetection, merge_detections, pick_detections
from birdnet_fs.analysis.options import allowed_classes, read_species
from birdnet_fs.core.errors import UserError

CLASSES = ("Turdus merula_Eurasian Blackbird", "Parus major_Great Tit", "nocall", "bird0_0")


@given(
    st.integers(0, 4),
    st.floats(0, 1, width=32),
    st.sets(st.integers(0, 4), min_size=1).map(sorted),
    st.lists(st.lists(st.floats(0, 1, width=32), min_size=5, max_size=5), max_size=6),
)
def test_pick_equals_brute_force(top_n, min_confidence, allowed, rows):
    probabilities = np.array(rows, np.float32).reshape(-1, 5)
    found = pick_detections(probabilities, min_confidence=min_confidence, top_n=top_n, allowed=allowed, first_window=3)
    wanted = []
    for number, row in enumerate(rows, 3):
        ranked = sorted((-row[index], index) for index in allowed)[: top_n or None]
        wanted += [
            WindowDetection(number, number, index, -score) for score, index in ranked if -score >= min_confidence
        ]
    assert found == wanted


def test_threshold_is_included():
    scores = np.array([[0.1, 0.7, 0.3]], np.float32)  # 0.1, 0.7, 0.3 are no float32: they must still count
    for threshold, wanted in ((0.1, [1, 2, 0]), (0.3, [1, 2]), (0.7, [1])):
        hits = pick_detections(scores, min_confidence=threshold, top_n=0, allowed=range(3))
        assert [hit.class_index for hit in hits] == wanted


@given(st.integers(0, 4), st.lists(st.sets(st.integers(0, 2)), max_size=12))
def test_merge_equals_brute_force(limit, windows_classes):
    def score(window, index):
        return ((window * 7 + index * 3) % 10) / 10

    hits = [WindowDetection(w, w, c, score(w, c)) for w, classes in enumerate(windows_classes) for c in sorted(classes)]
    wanted = []
    for index in range(3):
        present = [w for w, classes in enumerate(windows_classes) if index in classes]
        while present:
            run = [present.pop(0)]
            while present and present[0] == run[-1] + 1 and (limit == 0 or len(run) < limit):
                run.append(present.pop(0))
            wanted.append(WindowDetection(run[0], run[-1], index, max(score(w, index) for w in run)))
    assert merge_detections(hits, limit) == sorted(wanted, key=lambda h: (h.first, -h.confidence, h.class_index))


def test_species_list(tmp_path, capsys):
    assert allowed_classes(CLASSES, []) == (0, 1, 2, 3)
    assert allowed_classes(CLASSES, ["Turdus merula", "bird0_0"]) == (0, 3)
    assert allowed_classes(CLASSES, ["Parus major_Kohlmeise", "Corvus corax"]) == (1,)  # another language
    assert "1 of 2 names are no class of the model, first 'Corvus corax'" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"None of the 1 names .* Did you mean 'nocall'"):
        allowed_classes(CLASSES, ["no call"])
    path = tmp_path / "list.txt"
    path.write_text("\ufeff# spring\nTurdus merula\n\n  nocall \n", encoding="utf-8")
    assert read_species(path) == ["Turdus merula", "nocall"]
    for content, words in ((b"\n", "names no species"), (b"\xff\xfe\xfa", "must be UTF-8")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_species(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_species(tmp_path / "absent.txt")
