"""The table of target programs."""

import dataclasses

import numpy as np
import pytest
import tolerances
import uncompiled_librosa as librosa

from birdnet_fs.export.spec import INPUTS, PRECISIONS, SUFFIXES
from birdnet_fs.export.targets.companion_files import WRITERS
from birdnet_fs.export.targets.table import BIRDNET_24, TARGETS, InputContract
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel


@pytest.mark.parametrize("name", TARGETS)
def test_every_row_uses_known_keys(name: str) -> None:
    row = TARGETS[name]
    assert row.summary and row.source and row.format in SUFFIXES
    assert set(row.inputs) <= set(INPUTS) and set(row.precisions) <= set(PRECISIONS)
    assert set(row.companion_files) <= set(WRITERS) and row.inputs_accepted
    assert all(contract.preset in PRESETS for contract in row.inputs_accepted if contract.preset)


def test_contract_accepts_its_rate_and_length_only() -> None:
    right = PRESETS["birdnet_3s_48k"]
    assert BIRDNET_24.accepts(right) and InputContract().accepts(right)
    assert not BIRDNET_24.accepts(dataclasses.replace(right, segment_s=5.0))
    assert not BIRDNET_24.accepts(PRESETS["cnn_32k"])
    assert BIRDNET_24.applies_sigmoid and not InputContract().applies_sigmoid


def test_contract_names_the_fields_that_differ() -> None:
    engine = TARGETS["echo"].inputs_accepted[0]
    right = PRESETS["echo_engine"]
    assert engine.differing_fields(right) == [] and engine.accepts(right)
    other = dataclasses.replace(right, hop_length=right.hop_length + 1, fmin_hz=right.fmin_hz + 10)
    assert set(engine.differing_fields(other)) == {"hop_length", "fmin_hz"} and not engine.accepts(other)


def test_features_of_echo_edge_are_those_of_its_client() -> None:
    """Project Echo's steps, written again with librosa: the features that its client computes itself."""
    spec = PRESETS["echo_edge"]
    random = np.random.default_rng(3)
    time_s = np.arange(spec.n_samples) / spec.sample_rate_hz
    waveform = 0.3 * np.sin(2 * np.pi * (2000 + 400 * time_s) * time_s) + 0.01 * random.standard_normal(spec.n_samples)
    waveform = waveform.astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64), sr=32_000, n_mels=128, hop_length=512, fmin=20, fmax=16_000
    )
    decibels = librosa.power_to_db(power, ref=np.max)
    wanted = (decibels - decibels.mean()) / (decibels.std() + 1e-6)
    found = log_mel(waveform[None], spec)[0]
    assert found.shape == (313, 128)
    assert np.abs(found.T - wanted).max() <= tolerances.FRONTEND_DB / decibels.std() + tolerances.FRONTEND_FLOAT64
