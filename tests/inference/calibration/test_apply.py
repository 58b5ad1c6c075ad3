"""Calibrated engines: sigmoids of the maps of log-odds, for models with a sigmoid, a softmax and ranks."""

from dataclasses import replace

import numpy as np
import pytest
import tolerances
from level_model import CLASSES, LevelModel
from scipy.special import expit, logit, softmax

from birdnet_fs import schema
from birdnet_fs.inference.calibration.apply import calibrated
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration, write_calibration
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs import run as run_folder

A, B = np.array([0.5, 2.0, 1.0]), np.array([-1.0, 0.5, 0.0])
CALIBRATION = Calibration(CLASSES, CalibrationMaps(A, B))
WAVEFORMS = (np.random.default_rng(0).normal(0, 0.1, (6, 8000)) * np.linspace(0.5, 2, 6)[:, None]).astype(np.float32)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_probabilities_are_sigmoids_of_mapped_log_odds(activation):
    engine = replace(LevelModel().engine, activation=activation)
    found = calibrated(engine, CALIBRATION)
    logits = engine.logits(WAVEFORMS).astype(np.float64)
    log_odds = logits if activation == "sigmoid" else logit(softmax(logits, axis=1))
    expected = expit(A * log_odds + B)
    np.testing.assert_allclose(found.probabilities(WAVEFORMS), expected, atol=tolerances.ACTIVATION)
    assert found.activation == "sigmoid" and found.multi_label == engine.multi_label
    assert found.identity != engine.identity and found.calibration is CALIBRATION


def test_ranks_become_probabilities_and_no_calibration_changes_nothing():
    engine = replace(LevelModel().engine, gives_ranks=True)
    assert not calibrated(engine, CALIBRATION).gives_ranks
    assert calibrated(engine, None) is engine


def test_heads_on_embeddings_are_calibrated_too():
    engine = replace(LevelModel().engine, head=lambda embeddings: embeddings[:, :3])
    x = np.random.default_rng(1).normal(0, 2, (5, 8)).astype(np.float32)
    head = calibrated(engine, CALIBRATION).head
    np.testing.assert_allclose(head(x), A * x[:, :3] + B, rtol=tolerances.LOGITS_FLOAT32)


def test_a_run_with_calibration_json_opens_calibrated(tmp_path):
    spec = schema.FrontEnd(sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, n_mels=16, fmax_hz=4_000.0)
    experiment = schema.Experiment(frontend=spec, model=schema.Model("cnn/tiny"))
    weights = run_folder.model_weights(run_folder.build_network(experiment, n_classes=3))
    run_folder.save_run(tmp_path / "run", experiment, CLASSES, weights)
    plain = open_engine(tmp_path / "run")
    write_calibration(tmp_path / "run", CALIBRATION)
    found = open_engine(tmp_path / "run")
    expected = expit(A * logit(plain.probabilities(WAVEFORMS).astype(np.float64)) + B)
    np.testing.assert_allclose(found.probabilities(WAVEFORMS), expected, atol=3 * tolerances.ACTIVATION)
    assert found.identity != plain.identity and not found.multi_label
    run_folder.save_run(tmp_path / "run", experiment, CLASSES, weights)  # other weights are not calibrated by it
    assert not (tmp_path / "run" / run_folder.CALIBRATION).exists()
