"""Thresholds for a precision belong to a model, its post-processing and its windows."""

from dataclasses import replace

import numpy as np
import pytest
from level_model import CLASSES, LevelModel

from birdnet_fs.analysis.decision import make_decision
from birdnet_fs.analysis.postprocessing.chain import make_chain
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, ClassThreshold

NONE = ClassThreshold(None, reason="no labeled window has it")
THRESHOLDS = {0.9: (ClassThreshold(0.7), NONE, ClassThreshold(0.2)), 0.95: (NONE, NONE, NONE)}
ENGINE = LevelModel().engine
SMOOTH = "smooth:kernel=0.1/0.2/0.4/0.2/0.1"


def engine_with(post="", hop_s=1.0):
    identity = make_chain(post, CLASSES).identity
    maps = CalibrationMaps(np.ones(3), np.zeros(3))
    calibration = Calibration(CLASSES, maps, THRESHOLDS, post, identity, hop_s)
    return replace(ENGINE, calibration=calibration)


def test_thresholds_of_classes_are_taken_and_the_others_are_named(capsys):
    found = make_decision(engine_with(), precision=0.9, hop_s=0.5)
    assert found.thresholds.tolist() == [np.float32(0.7), np.inf, np.float32(0.2)]
    assert found.settings() == {"precision": 0.9}
    assert "2 of 3 classes have a threshold" in capsys.readouterr().err


def test_nothing_asked_for_changes_no_settings():
    found = make_decision(ENGINE, hop_s=1.0)
    assert found.thresholds is None and found.settings() == {}
    assert set(make_decision(ENGINE, post="smooth", hop_s=1.0).settings()) == {"post"}


def test_the_post_processing_of_the_calibration_is_used():
    found = make_decision(engine_with(SMOOTH), precision=0.9, hop_s=1.0)
    assert found.chain.text == SMOOTH
    assert make_decision(engine_with(SMOOTH), precision=0.9, post="smooth", hop_s=1.0).chain.text == SMOOTH
    assert make_decision(engine_with(SMOOTH), hop_s=1.0).chain.text == ""  # without thresholds as it is asked for


@pytest.mark.parametrize(
    ("engine", "given", "words"),
    [
        (ENGINE, {"precision": 0.9}, "needs a model with thresholds"),
        (engine_with(), {"precision": 0.8}, r"for the precisions 0\.9, 0\.95\. Received: 0\.8"),
        (engine_with(), {"precision": 0.95}, r"No class has a threshold for a precision of 0\.95"),
        (engine_with(), {"precision": 0.9, "min_confidence": 0.3}, "leave out --min_conf"),
        (engine_with(), {"precision": 0.9, "post": "smooth"}, "with the post-processing 'none'"),
        (engine_with(SMOOTH), {"precision": 0.9, "post": ""}, "leave out --post"),
        (engine_with(SMOOTH), {"precision": 0.9, "hop_s": 0.5}, "use --overlap 0"),
        (engine_with(SMOOTH, 0.5), {"precision": 0.9}, r"use --overlap 0\.5"),
    ],
)
def test_thresholds_for_other_scores_are_refused(engine, given, words):
    with pytest.raises(UserError, match=words):
        make_decision(engine, **{"hop_s": 1.0, **given})


def test_thresholds_are_refused_when_a_table_of_the_post_processing_has_changed(tmp_path):
    table = tmp_path / "w.csv"
    table.write_text(f"class,weight\n{CLASSES[0]},2\n")
    engine = engine_with(f"weights:table={table}")
    assert make_decision(engine, precision=0.9, hop_s=1.0).chain.text == f"weights:table={table}"
    table.write_text(f"class,weight\n{CLASSES[0]},3\n")
    with pytest.raises(UserError, match="have changed since the thresholds were chosen"):
        make_decision(engine, precision=0.9, hop_s=1.0)
