"""`birdnet-fs calibrate`: the copy it writes scores calibrated probabilities, the original stays as it was."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from html_page import check_page
from installed import need
from level_model import RATE

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.cli.calibrate import calibrate
from birdnet_fs.core.errors import UserError
from birdnet_fs.export.export import export_run
from birdnet_fs.inference.calibration.stored import read_calibration
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import load_run

QUICK = {"precision": "0.5,0.9", "noise_s": 2.0}


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve recordings of 8 s with a loud tone in some seconds (a), or noise (b), and a table of their times."""
    folder = tmp_path_factory.mktemp("labeled")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        waveform = rng.normal(0, 0.01, 8 * RATE)
        for second in range(8):
            label = "ab  "[rng.integers(4)] if second else "a"
            part = slice(second * RATE, (second + 1) * RATE)
            if label == "a":
                waveform[part] += 0.3 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
            if label == "b":
                waveform[part] += rng.normal(0, 0.2, RATE)
            if label != " ":
                rows.append((f"{number:02d}.wav", second + 0.05, second + 0.95, label))
        soundfile.write(folder / f"{number:02d}.wav", waveform.clip(-1, 1), RATE, subtype="PCM_16")
    with open(folder / "events.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filename", "start", "end", "label"), *rows])
    return folder


def test_a_run_is_copied_with_calibration_thresholds_and_a_page(untrained, labeled, tmp_path, capsys):
    before = {file.name: file.read_bytes() for file in untrained.iterdir()}
    calibrate(untrained, labeled / "events.csv", output=tmp_path / "run2", **QUICK)
    assert {file.name: file.read_bytes() for file in untrained.iterdir()} == before
    assert "ECE" in capsys.readouterr().out
    found = read_calibration(tmp_path / "run2", ("a", "b"))
    assert set(found.thresholds) == {0.5, 0.9} and found.hop_s == 1.0
    assert (found.about["n_recordings"], found.about["n_windows"]) == (12, 96)
    assert set(found.about["false_alarms"]["0.9"]) == {"rain", "wind", "engine", "hiss", "insects"}
    errors = [found.about[when]["errors"]["all"]["ece"] for when in ("before", "after")]
    assert errors[1] < errors[0]  # an untrained network says one half for a quarter of the windows
    plain, engine = open_engine(untrained), open_engine(tmp_path / "run2")
    waveforms = np.random.default_rng(1).normal(0, 0.1, (4, RATE)).astype(np.float32)
    p = plain.probabilities(waveforms).astype(np.float64)
    expected = found.maps(np.log(p / (1 - p)))
    np.testing.assert_allclose(engine.logits(waveforms), expected, atol=1e-4)  # log-odds by way of float32
    page = (tmp_path / "run2" / "calibration.html").read_text()
    assert "Thresholds for a precision of 90 %" in page and "<svg" in page
    check_page(page)
    with open(tmp_path / "run2" / "thresholds.csv", newline="") as file:
        assert [(row["class"], row["precision"]) for row in csv.DictReader(file)] == [
            (name, precision) for precision in ("0.5", "0.9") for name in "ab"
        ]


def test_what_would_be_lost_or_is_calibrated_already_is_refused(untrained, labeled, tmp_path):
    with pytest.raises(UserError, match="output folder is missing"):
        calibrate(untrained, labeled / "events.csv")
    with pytest.raises(UserError, match="folder of the model itself"):
        calibrate(untrained, labeled / "events.csv", output=untrained, **QUICK)
    calibrate(untrained, labeled / "events.csv", output=tmp_path / "two", **QUICK)
    with pytest.raises(UserError, match="holds a model already"):
        calibrate(untrained, labeled / "events.csv", output=tmp_path / "two", **QUICK)
    with pytest.raises(UserError, match="calibrated already"):
        calibrate(tmp_path / "two", labeled / "events.csv", output=tmp_path / "three", **QUICK)
    assert not (tmp_path / "three").exists()
    (tmp_path / "two" / "notes.txt").write_text("mine")
    calibrate(untrained, labeled / "events.csv", output=tmp_path / "two", overwrite=True, **QUICK)
    assert (tmp_path / "two" / "notes.txt").read_text() == "mine"


def test_thresholds_remember_post_processing(untrained, labeled, tmp_path):
    calibrate(untrained, labeled / "events.csv", output=tmp_path / "two", post="smooth", background=labeled, **QUICK)
    found = read_calibration(tmp_path / "two", ("a", "b"))
    assert found.post == "smooth:kernel=0.1/0.2/0.4/0.2/0.1"
    assert found.about["false_alarms"]["0.5"]["background"]["hours"] == pytest.approx(12 * 8 / 3600)


def test_too_few_labels_and_wrong_segments_are_refused(untrained, labeled, tmp_path):
    few = tmp_path / "few"
    few.mkdir()
    shutil.copy(labeled / "00.wav", few)
    (few / "events.csv").write_text("filename,start,end,label\n00.wav,0.1,0.9,a\n00.wav,3.1,3.9,b\n")
    with pytest.raises(UserError, match="A calibration needs 5 labeled recordings or more"):
        calibrate(untrained, few / "events.csv", output=tmp_path / "two", **QUICK)
    with pytest.raises(UserError, match="must be the window of the model, 1 s"):
        calibrate(untrained, labeled / "events.csv", ["data.segment_s=3"], output=tmp_path / "two", **QUICK)
    with pytest.raises(UserError, match="has no validation clips"):
        calibrate(untrained, output=tmp_path / "two", **QUICK)
    assert not (tmp_path / "two").exists()


def test_clips_are_calibrated_as_a_whole_but_not_post_processed(untrained, labeled, tmp_path, capsys):
    with open(labeled / "clips.csv", "w", newline="") as file:
        csv.writer(file).writerows([("filename", "label"), *((f"{n:02d}.wav", "ab"[n % 2]) for n in range(12))])
    calibrate(untrained, labeled / "clips.csv", output=tmp_path / "two", **QUICK)
    assert "no windows of 1 s" in capsys.readouterr().err
    assert json.loads((tmp_path / "two" / "calibration.json").read_text())["hop_s"] == 0
    with pytest.raises(UserError, match="Post-processing needs windows of whole recordings"):
        calibrate(untrained, labeled / "clips.csv", output=tmp_path / "three", post="smooth", **QUICK)


def test_a_calibrated_run_and_its_exported_file_detect_the_same(untrained, labeled, tmp_path):
    need("onnxruntime")
    calibrate(untrained, labeled / "events.csv", output=tmp_path / "two", **QUICK)
    [made] = export_run(load_run(tmp_path / "two"), tmp_path / "files", target="onnx", input="features", n_segments=2)
    tables = []
    for model in (tmp_path / "two", made.path):
        analyze(open_engine(model), [labeled], tmp_path / model.name, min_confidence=0.3)
        with open(tmp_path / model.name / "detections.csv", newline="") as file:
            tables.append(
                [(row["path"], row["start_s"], row["label"], float(row["confidence"])) for row in csv.DictReader(file)]
            )
    of_run, of_file = tables
    assert len(of_run) > 5 and [row[:3] for row in of_run] == [row[:3] for row in of_file]
    np.testing.assert_allclose([row[3] for row in of_run], [row[3] for row in of_file], atol=1e-3)  # 4 decimals
    engine = open_engine(made.path)
    assert engine.calibration.thresholds == read_calibration(tmp_path / "two", ("a", "b")).thresholds
    with pytest.raises(UserError, match="calibrated already"):
        calibrate(made.path, labeled / "events.csv", output=tmp_path / "three", **QUICK)
