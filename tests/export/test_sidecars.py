"""The labels file, the constants, and the stand-alone front-end against the package's own."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import tolerances

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.export import sidecars
from birdnet_fs.export.parity import inputs as parity_inputs
from birdnet_fs.export.targets import labels
from birdnet_fs.frontend import PRESETS
from birdnet_fs.frontend.in_numpy import log_mel

RECEIVER = Path(__file__).parents[2] / "export"


@pytest.fixture(scope="module")
def reader():
    """`export/reading.py` as a module."""
    spec = importlib.util.spec_from_file_location("reading", RECEIVER / "reading.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["reading"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


VARIED = [
    schema.FrontEnd(preset="htk_log_ref", bands="mel_htk", n_mels=40, compression="log", ref="max", top_db=60.0),
    schema.FrontEnd(preset="short_window", segment_s=1.0, win_length=400, hop_length=160, stft_scale="window_power"),
    schema.FrontEnd(preset="power", segment_s=1.0, compression="none", resize=(50, 64), resize_method="lanczos5"),
    schema.FrontEnd(preset="pad_start", segment_s=1.0, keep_frames=100, normalize="z_score", preemphasis=0.97),
    schema.FrontEnd(preset="crop_mid", segment_s=1.0, keep_frames=21, keep_from="center", normalize_when="first"),
]


@pytest.mark.parametrize("spec", [*PRESETS.values(), *VARIED], ids=lambda s: s.preset)
def test_the_stand_alone_front_end_is_ours(reader, spec: schema.FrontEnd) -> None:
    constants = sidecars.frontend_constants(spec)
    waveforms = parity_inputs.edge_waveforms(spec.n_samples, spec.sample_rate_hz)
    ours = log_mel(waveforms, spec)
    for row, expected in zip(waveforms, ours, strict=True):
        given = reader.log_mel(row, spec.to_artifact(), constants)
        assert given.shape == spec.shape
        assert np.isfinite(given).all()
        # relative to the largest value, because presets give dB, ratios or power
        assert np.abs(given - expected).max() <= tolerances.EXPORT_READER_FEATURES * max(1.0, np.abs(expected).max())


def test_the_stand_alone_front_end_reads_every_setting(reader) -> None:
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


def test_labels_are_pairs_in_order() -> None:
    lines = labels.label_lines(["Turdus merula_Common Blackbird", "noise", "été"])
    assert lines == ["Turdus merula_Common Blackbird", "noise_noise", "été_été"]


@pytest.mark.parametrize("classes", [["a", "a"], ["a", "a_a"], [""], ["a\nb"], [" "]])
def test_labels_that_cannot_be_read_back_are_refused(classes: list[str]) -> None:
    with pytest.raises(UserError):
        labels.label_lines(classes)


def test_edges_survive_sixteen_bits() -> None:
    rows = parity_inputs.edge_waveforms(32_000, 32_000)
    assert rows.shape == (len(parity_inputs.EDGE_NAMES), 32_000)
    assert np.array_equal(np.round(rows * 32768).clip(-32768, 32767).astype(np.int16) / np.float32(32768), rows)
    assert not rows[0].any()
    assert np.abs(rows[1]).max() > 0.9999
    assert not rows[2][32_000 // 5 + 1 :].any()
