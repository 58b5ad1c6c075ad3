"""The stored calibration: what was written is read, and what is damaged or of other classes is refused."""

import copy
import json

import numpy as np
import pytest
from small_runs import write_run

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import (
    Calibration,
    ClassThreshold,
    has_calibration,
    parse_calibration,
    read_calibration,
    write_calibration,
)
from birdnet_fs.runs.ensemble import check_members
from birdnet_fs.runs.run import CALIBRATION, load_run, run_identity

MAPS = CalibrationMaps(np.array([0.5, 1.0]), np.array([-1.0, 0.0]), {1: (np.array([-1.0, 2.0]), np.array([-3.0, 3.0]))})
SHOWN = ClassThreshold(0.7, 0.93, 0.85, 0.98, 0.5, 40, 12)
NOT_SHOWN = ClassThreshold(None, reason="no window with it")
CALIBRATION_OF_TWO = Calibration(("a", "b"), MAPS, {0.9: (SHOWN, NOT_SHOWN)}, "smooth", "ab12", 3.0, {"n_rows": 9})


def test_what_is_written_is_read(tmp_path):
    run = write_run(tmp_path / "run")
    before = run_identity(run)
    assert not has_calibration(run) and read_calibration(run, ("a", "b")) is None
    write_calibration(run, CALIBRATION_OF_TWO)
    found = read_calibration(run, ("a", "b"))
    x = np.random.default_rng(0).normal(0, 3, (50, 2))
    assert (found.maps(x) == MAPS(x)).all()
    assert (found.thresholds, found.hop_s) == ({0.9: (SHOWN, NOT_SHOWN)}, 3.0)
    assert (found.post, found.post_identity) == ("smooth", "ab12")
    assert found.identity == CALIBRATION_OF_TWO.identity
    assert run_identity(run) != before


def test_thresholds_are_those_of_a_stored_precision():
    assert CALIBRATION_OF_TWO.scores_for(0.9).tolist() == [np.float32(0.7), np.inf]
    with pytest.raises(UserError, match=r"for the precisions 0\.9\. Received: 0\.95"):
        CALIBRATION_OF_TWO.for_precision(0.95)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("format",), 2, "no calibration of format 1"),
        (("classes",), ["a", "c"], "of other classes"),
        (("maps",), [], "a list of 2"),
        (("maps", 0, "slope"), 0, "a number in"),
        (("maps", 0, "slope"), True, "a number in"),
        (("maps", 0, "offset"), "x", "a number in"),
        (("maps", 1, "from"), [2.0, -1.0], "isotonic"),
        (("maps", 1, "to"), [3.0, -3.0], "isotonic"),
        (("maps", 1, "to"), [3.0], "isotonic"),
        (("thresholds",), {"0.9": [{}]}, "a list of 2"),
        (("thresholds",), {"x": []}, "could not convert"),
        (("thresholds", "0.9", 0, "threshold"), 1.5, "a number in 0..1"),
        (("thresholds", "0.9", 0, "n_detections"), -1, "counts"),
        (("post",), 3, "post"),
        (("post_identity",), 3, "post"),
        (("hop_s",), -1, "a number in"),
    ],
)
def test_damaged_calibrations_are_refused(tmp_path, path, value, words):
    values = copy.deepcopy(CALIBRATION_OF_TWO.to_json())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UserError, match=words):
        parse_calibration(json.loads(json.dumps(values)), tmp_path / "calibration.json", ("a", "b"))


def test_a_calibration_of_a_newer_version_is_refused_by_its_number(tmp_path):
    values = {**CALIBRATION_OF_TWO.to_json(), "format": 2, "versions": {"birdnet_fs": "99.0"}}
    with pytest.raises(UserError, match=r"birdnet_fs 99\.0"):
        parse_calibration(values, tmp_path / "x.json", ("a", "b"))


def test_calibrated_runs_are_not_combined(tmp_path):
    runs = [write_run(tmp_path / name) for name in "xy"]
    write_calibration(runs[1], CALIBRATION_OF_TWO)
    assert (runs[1] / CALIBRATION).is_file()
    with pytest.raises(UserError, match="calibrate the ensemble"):
        check_members([load_run(run) for run in runs], "mean")
