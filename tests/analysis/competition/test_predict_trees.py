"""Submissions by a classifier: which window a row is scored by, and recordings that are missing."""

import csv

import numpy as np
import pytest
import soundfile

from birdnet_fs.analysis.competition.folder import competition_table
from birdnet_fs.analysis.competition.predict_trees import predict_submission
from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.classifier.model import SubmissionClassifier


class LevelFeatures:
    """The level of a window of 5 s."""

    sample_rate_hz, segment_s, n_samples, input_shape, identity = 8_000, 5.0, 40_000, (1,), "0" * 64

    def features(self, waveforms):
        return waveforms.std(axis=1, keepdims=True).astype(np.float32)


class LevelTrees:
    def __init__(self, low, high):
        self.low, self.high, self.width = low, high, 1

    def probabilities(self, x):
        return ((x[:, 0] > self.low) & (x[:, 0] < self.high)).astype(float)


CLASSIFIER = SubmissionClassifier(
    ("houfin", "akiapo"), (LevelTrees(0.1, 1), LevelTrees(0.01, 0.1)), LevelFeatures(), None
)


def competition(folder):
    """One recording of 12 s: silence, loud from 5 s, quieter from 10 s on."""
    (folder / "test_soundscapes").mkdir()
    tone = np.sin(np.arange(40_000) * 0.7)
    audio = np.concatenate([np.zeros(40_000), 0.5 * tone, 0.05 * tone[:16_000]])
    soundfile.write(folder / "test_soundscapes/soundscape_1.flac", audio, 8_000)
    asked = [("soundscape_1", bird, end) for end in (5, 10, 15) for bird in ("akiapo", "houfin")]
    asked.insert(3, ("soundscape_2", "akiapo", 5))
    rows = "".join(f"{f}_{b}_{e},{f},{b},{e}\n" for f, b, e in asked)
    (folder / "test.csv").write_text("row_id,file_id,bird,end_time\n" + rows)


def test_rows_are_scored_by_the_window_that_ends_at_their_stamp(tmp_path):
    competition(tmp_path)
    report, ledger = predict_submission(CLASSIFIER, tmp_path, tmp_path / "out.csv")
    with open(tmp_path / "out.csv", encoding="utf-8", newline="") as file:
        found = {row["row_id"]: row["target"] for row in csv.DictReader(file)}
    assert len(found) == 7 and [name for name, target in found.items() if target == "True"] == [
        "soundscape_1_houfin_10",
        "soundscape_1_akiapo_15",
    ]
    assert report.recordings == ("soundscape_2",)
    reasons = {row.source: (row.status, row.reason) for row in ledger.rows}
    assert reasons["soundscape_2"] == ("quarantined", "there is no recording called soundscape_2.")
    assert reasons["soundscape_1_15"][0] == "partial" and reasons["soundscape_1_5"][0] == "ok"


def test_unreadable_recordings_still_give_every_row(tmp_path):
    competition(tmp_path)
    (tmp_path / "test_soundscapes/soundscape_1.flac").write_bytes(b"no audio")
    report, ledger = predict_submission(CLASSIFIER, tmp_path, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().count("False") == report.n_rows == report.n_without_scores == 7
    assert ledger.counts()["quarantined"] == 4


def test_the_table_is_test_csv_of_the_long_form_else_the_sample(tmp_path):
    with pytest.raises(UserError, match=r"must have test\.csv or sample_submission\.csv; it has neither"):
        competition_table(tmp_path)
    (tmp_path / "sample_submission.csv").write_text("row_id,akiapo,houfin\n")
    assert competition_table(tmp_path).name == "sample_submission.csv"
    (tmp_path / "test.csv").write_text("row_id\n")
    assert competition_table(tmp_path).name == "sample_submission.csv"
    (tmp_path / "test.csv").write_text("row_id,file_id,bird,end_time\n")
    assert competition_table(tmp_path).name == "test.csv"
