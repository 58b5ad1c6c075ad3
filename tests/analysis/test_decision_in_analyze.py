"""analyze with post-processing and with thresholds for a precision."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from level_model import CLASSES, LevelModel, square

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.postprocessing.chain import make_chain
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold

NONE = ClassThreshold(None, reason="no labeled window has it")
LEVELS = [0.02, 0.1, 0.12, 0.02, 0.02, 0.15]  # probabilities of the first class: .01, .5, .77, .01, .01, .95


def rows(folder):
    (file,) = folder.glob("one*.csv")
    with open(file, newline="") as opened:
        found = list(csv.DictReader(opened))
    return [(float(row["Start (s)"]), row["Scientific name"], float(row["Confidence"])) for row in found]


@pytest.fixture
def recording(tmp_path):
    (tmp_path / "recordings").mkdir()
    square(tmp_path / "recordings" / "one.wav", LEVELS)
    return tmp_path / "recordings"


def engine_with(post="", hop_s=1.0):
    thresholds = {0.9: (ClassThreshold(0.7), NONE, ClassThreshold(0.9))}
    maps, identity = CalibrationMaps(np.ones(3), np.zeros(3)), make_chain(post, CLASSES).identity
    calibration = Calibration(CLASSES, maps, thresholds, post, identity, hop_s)
    return replace(LevelModel().engine, calibration=calibration)


@pytest.mark.parametrize("n_workers", [1, 2])
def test_each_class_has_its_threshold_and_one_without_is_not_reported(recording, tmp_path, n_workers):
    analyze(engine_with(), [recording], tmp_path / "t", precision=0.9, n_workers=n_workers)
    found = rows(tmp_path / "t")
    assert [(start, name) for start, name, _ in found] == [(2, "Turdus merula"), (5, "Turdus merula"), (5, "bird0_0")]


def test_post_processing_sees_the_whole_recording_and_changes_the_tables(recording, tmp_path):
    engine = LevelModel().engine
    analyze(engine, [recording], tmp_path / "t", min_confidence=0.0, post="smooth:kernel=1/2/1", batch_size=2)
    p = 1 / (1 + np.exp(-(60 * np.array(LEVELS) - 6)))
    padded = np.r_[p[0], p, p[-1]]
    expected = (padded[:-2] + 2 * p + padded[2:]) / 4
    found = [confidence for _, name, confidence in rows(tmp_path / "t") if name == "Turdus merula"]
    assert found == pytest.approx(expected.tolist(), abs=1e-4)  # the tables have four decimals
    n_windows = LevelModel()
    again = replace(engine, forward=n_windows.forward)
    analyze(again, [recording], tmp_path / "t", min_confidence=0.0, post="smooth:kernel=1/2/1")
    assert n_windows.n_windows == 0  # finished
    analyze(again, [recording], tmp_path / "t", min_confidence=0.0)
    assert n_windows.n_windows == 6  # without post-processing it is another analysis


def test_the_post_processing_of_a_calibration_is_applied_with_its_precision(recording, tmp_path):
    analyze(engine_with("file_topk:k=1:power=1"), [recording], tmp_path / "t", precision=0.9)
    found = rows(tmp_path / "t")
    assert [(start, name) for start, name, _ in found] == [(2, "Turdus merula"), (5, "Turdus merula"), (5, "bird0_0")]
    assert found[0][2] == pytest.approx(0.7685 * 0.9526, abs=1e-3)
    with pytest.raises(UserError, match="use --overlap 0"):
        analyze(engine_with("smooth:kernel=1/2/1"), [recording], tmp_path / "u", precision=0.9, overlap_s=0.5)
    with pytest.raises(UserError, match="leave out the grid"):
        analyze(engine_with(), [recording], tmp_path / "u", precision=0.9, grid_s=1.0)
