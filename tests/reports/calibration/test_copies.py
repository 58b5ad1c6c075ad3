"""Calibrated copies of exported files, runs and ensembles; the originals are not changed."""

import csv
import json

import numpy as np
import pytest
from scipy.special import expit, logit
from small_runs import write_run

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold, has_calibration
from birdnet_fs.reports.calibration.copies import check_copy, write_copy

MAPS = CalibrationMaps(np.array([0.5, 2.0]), np.array([-1.0, 0.0]))
SHOWN = ClassThreshold(0.7, 0.93, 0.85, 0.98, 0.5, 40, 12)
CALIBRATION = Calibration(("a", "b"), MAPS, {0.9: (SHOWN, ClassThreshold(None, reason="no window"))})


def page(path):
    path.write_text("page")


def test_an_exported_file_is_copied_with_what_belongs_to_it(tmp_path):
    (tmp_path / "export").mkdir()
    for name in ("m.tflite", "m_Labels.txt", "m_golden.npz", "m_fp16.tflite", "m_fp16_Labels.txt", "parity.json"):
        (tmp_path / "export" / name).write_text(name)
    (tmp_path / "export" / "m.json").write_text(json.dumps({"format": 1, "classes": ["a", "b"]}))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "notes.txt").write_text("mine")
    found = write_copy(tmp_path / "export" / "m.tflite", tmp_path / "new", CALIBRATION, page)
    assert found == tmp_path / "new" / "m.tflite"
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == [
        *("m.json", "m.tflite", "m_Labels.txt", "m_Thresholds.csv", "m_calibration.html", "m_golden.npz", "notes.txt"),
    ]
    sidecar = json.loads((tmp_path / "new" / "m.json").read_text())
    assert sidecar["classes"] == ["a", "b"] and sidecar["calibration"] == CALIBRATION.to_json()
    assert "calibration" not in json.loads((tmp_path / "export" / "m.json").read_text())
    with pytest.raises(UserError, match="holds a model already"):
        check_copy(tmp_path / "export" / "m.tflite", tmp_path / "new")
    check_copy(tmp_path / "export" / "m.tflite", tmp_path / "new", overwrite=True)


def test_thresholds_are_also_those_of_the_file_without_calibration(tmp_path):
    write_copy(write_run(tmp_path / "run"), tmp_path / "new", CALIBRATION, page)
    with open(tmp_path / "new" / "thresholds.csv", newline="") as file:
        shown, not_shown = csv.DictReader(file)
    # the score of the model that the map turns into the threshold
    assert expit(0.5 * logit(float(shown["model_threshold"])) - 1) == pytest.approx(0.7)
    assert (shown["threshold"], shown["shown_precision"], shown["n_detections"]) == ("0.7", "0.9300", "40")
    assert (not_shown["threshold"], not_shown["model_threshold"], not_shown["reason"]) == ("", "", "no window")


def test_a_run_is_copied_without_results_of_the_other_scores(tmp_path):
    run = write_run(tmp_path / "run")
    for name in ("metrics.json", "scores.csv", "report.html", "partition.csv", "history.csv", "notes.txt"):
        (run / name).write_text(name)
    (run / "checkpoints" / "epoch1").mkdir(parents=True)
    found = write_copy(run, tmp_path / "new", CALIBRATION, page)
    assert has_calibration(found) and not has_calibration(run)
    assert sorted(file.name for file in found.iterdir()) == [
        *("calibration.html", "calibration.json", "classes.txt", "config.json", "history.csv", "partition.csv"),
        *("thresholds.csv", "versions.json", "weights.safetensors"),
    ]


def test_an_ensemble_is_copied_with_its_members(tmp_path):
    ensemble = tmp_path / "ensemble"
    write_run(ensemble / "members" / "0")
    for name in ("ensemble.json", "classes.txt", "scores.csv"):
        (ensemble / name).write_text(name)
    found = write_copy(ensemble, tmp_path / "new", CALIBRATION, page)
    assert (found / "members" / "0" / "weights.safetensors").is_file() and not (found / "scores.csv").exists()
    assert has_calibration(found)
