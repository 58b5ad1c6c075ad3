"""Thresholds in the model card: a row for each class, or a summary of many classes."""

import numpy as np
import pytest
from run_to_export import CLASSES, small_run_on, write_recordings

from birdnet_fs.export.card_thresholds import MOST_CLASSES, threshold_lines
from birdnet_fs.export.spec import ExportSpec
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold, write_calibration
from birdnet_fs.runs.run import Run

SHOWN = ClassThreshold(0.7, 0.93, 0.85, 0.98, 0.5, 40, 12)
NOT_SHOWN = ClassThreshold(None, reason="no window | with it")
TABLE = "m_Thresholds.csv"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    recordings = write_recordings(tmp_path_factory.mktemp("recordings"))
    return small_run_on(recordings, tmp_path_factory.mktemp("runs") / "small")


def test_each_class_has_threshold_precision_interval_and_counts(run: Run) -> None:
    maps = CalibrationMaps(np.array([2.0, 1.0, 1.0]), np.array([1.0, 0.0, 0.0]))
    about = {"n_windows": 1200, "n_recordings": 17}
    thresholds = {0.9: (SHOWN, NOT_SHOWN, SHOWN)}
    write_calibration(run.path, Calibration(CLASSES, maps, thresholds, about=about))
    text = "\n".join(threshold_lines(run, ExportSpec(), TABLE))
    assert "1,200 windows of 17 recordings" in text and TABLE in text and "in the sidecar" in text
    # 0.7 is log-odds 0.847, which slope 2 and offset 1 make of -0.076: the score 0.481 without calibration
    assert "| 0.7 | 0.481 | 0.93 (0.85 to 0.98) | 0.50 | 40 in 12 recordings |" in text
    assert "none: no window \\| with it" in text
    inside = "\n".join(threshold_lines(run, ExportSpec(calibrated=True), TABLE))
    assert "| 0.7 | 0.7 | 0.93" in inside and "part of the file" in inside


def test_many_classes_have_a_summary(run: Run, monkeypatch) -> None:
    from birdnet_fs.export import card_thresholds

    monkeypatch.setattr(card_thresholds, "MOST_CLASSES", 2)
    maps = CalibrationMaps(np.ones(3), np.zeros(3))
    write_calibration(run.path, Calibration(CLASSES, maps, {0.9: (SHOWN, NOT_SHOWN, SHOWN), 0.95: (NOT_SHOWN,) * 3}))
    text = "\n".join(threshold_lines(run, ExportSpec(), TABLE))
    assert "2 of 3 classes have a threshold, from 0.7 to 0.7" in text and "|" not in text
    assert "None of 3 classes has a threshold" in text and MOST_CLASSES >= 50
