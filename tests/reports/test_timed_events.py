"""Numbers of scored windows against annotated events, and where they are written."""

import json
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import ScoreRow, score_table
from birdnet_fs.reports.evaluate import write_evaluation
from birdnet_fs.reports.timed_events import scored_recordings, timed_lines, timed_numbers

CLASSES = ("owl", "wren", "nightjar")
EVENTS = (
    Clip(Path("b.wav"), 1.0, 2.0, ("owl",)),
    Clip(Path("a.wav"), 3.0, 4.0, ("wren",)),
    Clip(Path("a.wav"), 0.0, 1.0, ("owl", "wren")),
    Clip(Path("elsewhere.wav"), 0.0, 1.0, ("owl",)),
    Clip(Path("a.wav"), 2.0, None, ("owl",)),
)


def table():
    """Windows of 1 s, not in order; the scores of the owl are right, those of the wren miss one event."""
    rows, scores = [], []
    for path, start, owl, wren in (
        ("a.wav", 3, 0.1, 0.2), ("a.wav", 0, 0.9, 0.8), ("a.wav", 1, 0.1, 0.1), ("a.wav", 2, 0.1, 0.1),
        ("b.wav", 0, 0.1, 0.1), ("b.wav", 1, 0.9, 0.3),
    ):  # fmt: skip
        labels = tuple(n for e in EVENTS for n in e.labels if str(e.path) == path and e.onset_s == start)
        rows.append(ScoreRow(path, float(start), 1.0, path, labels))
        scores.append([owl, wren, 0.0])
    return score_table(rows, np.array(scores), CLASSES)


def test_recordings_have_their_windows_and_events_in_order():
    first, second = scored_recordings(table(), EVENTS)
    assert first.starts_s.tolist() == [0, 1, 2, 3] and (first.scores[:, 0] > 0.5).tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert first.events[1].tolist() == [[0, 1], [3, 4]] and first.duration_s == 4
    assert second.events[0].tolist() == [[1, 2]] and second.events[2].shape == (0, 2)


def test_windows_that_overlap_stand_for_the_time_around_their_middle():
    rows = [ScoreRow("a.wav", float(start), 3.0, "a", ()) for start in (0, 1, 2, 5)]
    [recording] = scored_recordings(score_table(rows, np.zeros((4, 3)), CLASSES), ())
    assert recording.starts_s.tolist() == [0, 2, 3, 5] and recording.ends_s.tolist() == [2, 3, 5, 8]
    [whole] = scored_recordings(score_table(rows, np.zeros((4, 3)), CLASSES), (), without_overlap=False)
    assert whole.starts_s.tolist() == [0, 1, 2, 5] and whole.duration_s == recording.duration_s == 8


def test_numbers_are_those_of_the_events():
    found = timed_numbers(table(), EVENTS)
    assert (found["n_events"], found["window_s"], found["hours"]) == (4, 1.0, pytest.approx(6 / 3600))
    owl, wren, nightjar = found["per_class"]
    assert owl["psds_localized"] == 1 and owl["f_measure"]["iou_0.5"] == 1 and owl["n_events"] == 2
    assert wren["f_measure"] == {"iou_0.3": 2 / 3, "iou_0.5": 2 / 3, "collar": 2 / 3}
    assert wren["detection_rate"]["0.1"] == 0.5  # b.wav has a higher score than the second event
    assert nightjar["psds_present"] is None and nightjar["detection_rate"]["1"] is None
    assert found["f_measure"]["collar"] == pytest.approx((1 + 2 / 3) / 2)
    assert timed_numbers(table(), EVENTS[3:4]) == {}
    assert "detected events by false alarms per hour and class: 0.750 at 0.1/h" in timed_lines(found)[1]


def test_evaluation_holds_them_and_forgets_earlier_ones(tmp_path):
    metrics = write_evaluation(tmp_path, table(), multi_label=True, title="x", events=EVENTS)
    assert json.loads((tmp_path / "metrics.json").read_text())["timed_events"] == metrics["timed_events"]
    assert "PSDS" in (tmp_path / "report.html").read_text()
    write_evaluation(tmp_path, table(), multi_label=True, title="x")
    assert "timed_events" not in json.loads((tmp_path / "metrics.json").read_text())
