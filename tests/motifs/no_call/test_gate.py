"""Classifiers as gates."""

from dataclasses import replace

import numpy as np
import pytest
from level_model import CLASSES, RATE, LevelModel

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.no_call import gate
from birdnet_fs.motifs.no_call.gate import ClassifierGate


def test_a_classifier_needs_one_class_of_calls(monkeypatch, tmp_path):
    monkeypatch.setattr(gate, "open_engine", lambda path, threads: LevelModel().engine)
    with pytest.raises(UserError, match=rf"one class of calls.*with {len(CLASSES)} classes"):
        gate.open_gate(tmp_path)
    with pytest.raises(UserError, match=r"must be in 0\.\.1. Received: 2"):
        gate.open_gate(tmp_path, threshold=2)


def test_a_classifier_is_a_gate_by_its_loudest_window(monkeypatch, tmp_path):
    engine = replace(LevelModel().engine, classes=("nocall", "call"), forward=lambda w: LevelModel().forward(w)[:, :2])
    monkeypatch.setattr(gate, "open_engine", lambda path, threads: engine)
    found = gate.open_gate(tmp_path)
    assert isinstance(found, ClassifierGate) and (found.threshold, found.identity) == (0.5, "fake 1")
    quiet, loud = np.zeros(RATE), np.tile([0.2, -0.2], RATE // 2)
    rows = np.stack([np.concatenate([quiet, quiet]), np.concatenate([quiet, loud])]).astype(np.float32)
    np.testing.assert_allclose(found.probabilities(rows), [1 / (1 + np.exp(6)), 1 / (1 + np.exp(-6))], rtol=1e-5)
