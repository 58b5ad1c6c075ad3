"""The front-end of export/reading.py against the package's own."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
from receiving import module

from birdnet_fs import schema
from birdnet_fs.export import sidecars
from birdnet_fs.export.parity import inputs as parity_inputs
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.inference.activations import to_log_odds, to_probabilities
from birdnet_fs.inference.calibration.maps import CalibrationMaps
from birdnet_fs.inference.calibration.stored import Calibration


@pytest.fixture(scope="module")
def reader():
    """`export/reading.py` as a module."""
    return module("reading")


VARIED = [
    schema.FrontEnd(preset="htk_log_ref", bands="mel_htk", n_mels=40, compression="log", ref="max", top_db=60.0),
    schema.FrontEnd(preset="short_window", segment_s=1.0, win_length=400, hop_length=160, stft_scale="window_power"),
    schema.FrontEnd(preset="power", segment_s=1.0, compression="none", resize=(50, 64), resize_method="lanczos5"),
    schema.FrontEnd(preset="pad_start", segment_s=1.0, keep_frames=100, normalize="z_score", preemphasis=0.97),
    schema.FrontEnd(preset="crop_mid", segment_s=1.0, keep_frames=21, keep_from="center", normalize_when="first"),
]


@pytest.mark.parametrize("spec", [*PRESETS.values(), *VARIED], ids=lambda s: s.preset)
def test_reader_front_end_equals_the_package(reader, spec: schema.FrontEnd) -> None:
    constants = sidecars.frontend_constants(spec)
    waveforms = parity_inputs.edge_waveforms(spec.n_samples, spec.sample_rate_hz)
    ours = log_mel(waveforms, spec)
    for row, expected in zip(waveforms, ours, strict=True):
        given = reader.log_mel(row, spec.to_artifact(), constants)
        assert given.shape == spec.shape
        assert np.isfinite(given).all()
        # relative to the largest value, because presets give dB, ratios or power
        assert np.abs(given - expected).max() <= tolerances.EXPORT_READER_FEATURES * max(1.0, np.abs(expected).max())


def test_reader_front_end_uses_every_setting(reader) -> None:
    """Each setting changes what the reader computes: none is skipped."""
    base = schema.FrontEnd(
        segment_s=1.0, normalize="min_max", normalize_when="first", keep_frames=50, resize=(40, 64), top_db=60.0
    )
    row = parity_inputs.edge_waveforms(base.n_samples, base.sample_rate_hz)[3]
    changes = {
        "preemphasis": 0.9,
        "hop_length": 400,
        "pad_mode": "reflect",
        "compression": "none",
        "amin": 1e-2,
        "top_db": 20.0,
        "keep_frames": 30,
        "keep_from": "centre",
        "normalise": "z_score",
        "normalise_when": "last",
        "normalise_eps": 0.5,
    }
    plain = base.to_artifact()
    constants = sidecars.frontend_constants(base)
    before = reader.log_mel(row, plain, constants)
    for key, value in changes.items():
        changed = schema.FrontEnd.from_artifact({**plain, key: value})
        after = reader.log_mel(row, changed.to_artifact(), sidecars.frontend_constants(changed))
        assert after.shape != before.shape or np.abs(after - before).max() > 1e-3, key
        assert np.abs(after - log_mel(row, changed)[0]).max() < 1e-3, key


MAPS = CalibrationMaps(
    np.array([0.5, 2.0, 1.0]), np.array([-1.0, 0.5, 0.0]), {2: (np.array([-2.0, 1.0]), np.array([-3.0, 2.0]))}
)


@pytest.mark.parametrize(
    ("output", "activation"), [("logits", "sigmoid"), ("logits", "softmax"), ("probabilities", "sigmoid")]
)
def test_reader_calibrates_as_the_package(reader, output: str, activation: str) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 3)).astype(np.float32)
    sidecar = {"output": output, "activation": activation, "classes": ["a", "b", "c"]}
    sidecar["calibration"] = Calibration(("a", "b", "c"), MAPS).to_json()
    reader.check_calibration(Path("m.json"), sidecar)
    given = logits if output == "logits" else to_probabilities(logits, activation)
    expected = to_probabilities(MAPS(to_log_odds(logits, activation)), "sigmoid")
    np.testing.assert_allclose(reader.calibrated(given, sidecar), expected, atol=tolerances.ACTIVATION)


def test_reader_prints_calibrated_probabilities_of_every_segment(reader, tmp_path, capsys) -> None:
    levels = np.array([0.1, 0.4, 0.7])
    soundfile.write(tmp_path / "r.wav", np.repeat(levels, 8_000), 8_000, subtype="FLOAT")
    sidecar = {"output": "logits", "activation": "sigmoid", "classes": ["a", "b", "c"], "input": "waveform"}
    sidecar |= {"sample_rate_hz": 8_000, "segment_s": 1.0, "calibration": Calibration(("a", "b", "c"), MAPS).to_json()}
    logits = np.stack([levels, -levels, 5 * levels], axis=1).astype(np.float32)

    def network(waveform: np.ndarray) -> list[np.ndarray]:
        return [logits[[np.abs(levels - waveform.mean()).argmin()]]]

    artifact = reader.Artifact(sidecar, ["a", "b", "c"], {}, reader.Network([1, 8_000], [3], network))
    given = argparse.Namespace(model=tmp_path / "m.tflite", audio=tmp_path / "r.wav", json=True, top=3)
    assert reader._score_and_print(given, lambda path: artifact) == 0
    rows = json.loads(capsys.readouterr().out)["segments"]
    expected = to_probabilities(MAPS(logits), "sigmoid")
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, atol=tolerances.ACTIVATION)


@pytest.mark.parametrize(
    "damaged",
    [
        *(3, {}, {"format": 2, "maps": [{"slope": 1, "offset": 0}]}, {"format": 1, "maps": []}),
        *({"format": 1, "maps": [each]} for each in ({}, 3, {"slope": "x", "offset": 0}, {"from": [1], "to": []})),
        *({"format": 1, "maps": [each]} for each in ({"slope": 0, "offset": 0}, {"slope": 1}, {"from": [], "to": []})),
        *(
            {"format": 1, "maps": [each]}
            for each in ({"from": [1, 0], "to": [0, 1]}, {"from": [0, 1], "to": [1, 0]}, {"from": 1, "to": 1})
        ),
    ],
)
def test_reader_refuses_damaged_calibrations(reader, damaged: object) -> None:
    with pytest.raises(reader.InputError, match="calibrate the file again"):
        reader.check_calibration(Path("m.json"), {"classes": ["a"], "calibration": damaged})
