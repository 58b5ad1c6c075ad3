"""False alarms on noise: counted as windows above thresholds, with the exact upper end of a Poisson count."""

import numpy as np
import pytest
from level_model import LevelModel, square, write_wav
from scipy.stats import poisson

from birdnet_fs.analysis.calibration import false_alarms
from birdnet_fs.analysis.calibration.false_alarms import (
    NoiseScores,
    count_false_alarms,
    score_background,
    score_noise,
)
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.synthetic.noise import KINDS


def test_every_kind_is_scored_for_its_seconds(monkeypatch):
    monkeypatch.setattr(false_alarms, "RECORDING_S", 3.0)
    model = LevelModel()
    found = score_noise(model.engine, 7.0)
    assert set(found) == set(KINDS) and model.n_windows == 7 * len(KINDS)
    assert all(each.scores.shape == (7, 3) and each.hours == 7 / 3600 for each in found.values())
    halves = score_noise(model.engine, 3.0, hop_s=0.5, post=lambda scores, path: scores * 0)
    assert halves["rain"].scores.shape == (5, 3) and not halves["rain"].scores.any()
    assert score_noise(model.engine, 0) == {}


def test_background_is_scored_and_broken_recordings_are_left_out(tmp_path, capsys):
    square(tmp_path / "loud.wav", [0.2] * 5 + [0.01] * 5)
    write_wav(tmp_path / "sub" / "other.wav", 4, level=0.001)
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    seen = []

    def post(scores, path):
        seen.append(path.name)
        return scores

    found = score_background(LevelModel().engine, tmp_path, post=post)
    assert found.scores.shape == (14, 3) and found.hours == pytest.approx(14 / 3600)
    assert sorted(seen) == ["loud.wav", "other.wav"] and "broken.wav is left out" in capsys.readouterr().err
    counts = count_false_alarms({"background": found}, np.array([0.5, np.inf, 0.99], np.float32))["background"]
    assert counts.by_class.tolist() == [5, 0, 5] and counts.n == 10 and counts.per_hour == pytest.approx(10 * 3600 / 14)


def test_nothing_readable_is_refused(tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"no audio")
    with pytest.raises(UserError, match="None of the recordings"):
        score_background(LevelModel().engine, tmp_path)


@pytest.mark.parametrize("n", [0, 3, 40])
def test_upper_end_is_where_so_few_would_have_5_percent(n):
    scores = np.zeros((100, 1), np.float32)
    scores[:n] = 1
    found = count_false_alarms({"rain": NoiseScores(scores, 0.25)}, np.array([0.5], np.float32))["rain"]
    assert poisson.cdf(n, found.upper_per_hour * 0.25) == pytest.approx(0.05)
