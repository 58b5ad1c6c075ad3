"""Mistakes that a report shows: which are chosen, and their picture and sound."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.data.score_table import ScoreRow, ScoreTable, score_table
from birdnet_fs.reports.pages.mistakes import MOST_OF_A_PAIR, find_mistakes, mistake_rows

RATE_HZ = 32_000


def table(labels: list[tuple[str, ...]], scores: list[list[float]], path: str = "a.wav") -> ScoreTable:
    rows = [ScoreRow(path, float(i), 1.0, "", each) for i, each in enumerate(labels)]
    return score_table(rows, np.array(scores), ("a", "b", "c"))


def test_the_most_certain_mistakes_come_first_and_pairs_are_limited() -> None:
    sizes = [0.5, 0.9, 0.7, 0.6]  # of four clips of a called b
    labels = [("a",)] * 4 + [("a",), ("c",), ("a", "b")]
    scores = [[0.0, size, 0.0] for size in sizes] + [[0.9, 0.1, 0.0], [0.3, 0.3, 0.4 - 0.15], [0.0, 0.0, 1.0]]
    found = find_mistakes(table(labels, scores), multi_label=False)
    assert [(each.row, each.true, each.predicted) for each in found] == [(1, "a", "b"), (2, "a", "b"), (5, "c", "a")]
    assert [each.certainty for each in found] == pytest.approx([0.9, 0.7, 0.05]) and MOST_OF_A_PAIR == 2
    assert len(find_mistakes(table(labels, scores), multi_label=False, n=1)) == 1


def test_false_alarms_and_misses_of_several_labels() -> None:
    found = find_mistakes(table([("a", "b"), ()], [[0.9, 0.2, 0.1], [0.6, 0.4, 0.95]]), multi_label=True)
    assert [(each.row, each.true, each.predicted) for each in found] == [(1, "", "c"), (0, "b", ""), (1, "", "a")]
    assert [each.certainty for each in found] == pytest.approx([0.95, 0.8, 0.6])


def test_a_perfect_model_has_none() -> None:
    assert find_mistakes(table([("a",), ("b",)], [[1, 0, 0], [0, 1, 0]]), multi_label=False) == []
    assert find_mistakes(table([("a",), ()], [[1, 0, 0], [0, 0, 0]]), multi_label=True) == []


def test_picture_and_sound_are_of_the_segment_and_a_recording_that_is_gone_is_named(tmp_path: Path) -> None:
    seconds = np.arange(4 * RATE_HZ) / RATE_HZ
    signal = 0.5 * np.sin(2 * np.pi * 4000 * seconds) * (seconds >= 1) * (seconds < 2)
    soundfile.write(tmp_path / "a.wav", signal, RATE_HZ)
    labels, scores = [(), ("a",)], [[0.0, 0.0, 0.0], [0.0, 0.9, 0.0]]
    wrong = table(labels, scores, str(tmp_path / "a.wav"))
    (row,) = mistake_rows(wrong, find_mistakes(wrong, multi_label=False), RATE_HZ)
    assert (row["true"], row["predicted"], row["start"], row["reason"]) == ("a", "b", "0:01.0", "")
    assert row["predicted_score"] == pytest.approx(0.9) and row["sound"]["slowed"] == 1
    played, rate = soundfile.read(io.BytesIO(base64.b64decode(row["sound"]["data"])))
    spectrum = np.abs(np.fft.rfft(played))
    assert rate == RATE_HZ and spectrum.argmax() * rate / len(played) == pytest.approx(4000, abs=5)
    assert np.sqrt(np.mean(played[3000:-3000] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
    (tmp_path / "a.wav").unlink()
    (row,) = mistake_rows(wrong, find_mistakes(wrong, multi_label=False), RATE_HZ)
    assert row["picture"] is None and row["sound"] is None and "a.wav" in row["reason"]
