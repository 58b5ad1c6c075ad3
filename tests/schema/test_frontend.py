"""Checks, shapes and JSON of the front-end settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment, FrontEnd


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("frontend.sample_rate_hz=10", "frontend.sample_rate_hz must be in 1000..1000000"),
        ("frontend.n_fft=15", "frontend.n_fft must be 16 or more samples"),
        ("frontend.n_fft=1025", "frontend.n_fft must be even"),
        ("frontend.win_length=2048", "frontend.win_length must be in 1..n_fft (1024) samples"),
        ("frontend.hop_length=0", "frontend.hop_length must be 1 or more samples"),
        ("frontend.fmax_hz=20000", "16000 Hz"),
        ("frontend.amin=0", "frontend.amin must be above 0"),
        ("frontend.resize=[0,4]", "frontend.resize must be [n_frames, n_mels], both above 0, or [0, 0]"),
        ("frontend.segment_s=0.01 frontend.pad_mode=none", "frontend.segment_s must be 0.032 s or more (one frame)"),
        ("frontend.pcen_gain=0.5", "frontend.pcen_gain needs frontend.compression=pcen; it must be 0.98 with db"),
    ],
)
def test_front_end_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)


def test_shape_counts_frames_and_bands() -> None:
    assert FrontEnd().n_samples == 160_000
    assert FrontEnd().shape == (1 + 160_000 // 512, 128)
    assert FrontEnd(pad_mode="none").shape == (1 + (160_000 - 1024) // 512, 128)
    assert FrontEnd(keep_frames=300).shape == (300, 128)
    assert FrontEnd(keep_frames=300, resize=(64, 32)).shape == (64, 32)


def test_from_artifact_inverts_to_artifact() -> None:
    spec = FrontEnd(normalize="z_score", normalize_when="first", keep_from="center", resize=(4, 5))
    plain = spec.to_artifact()
    assert (plain["normalise"], plain["normalise_when"], plain["keep_from"]) == ("z_score", "first", "centre")
    assert FrontEnd.from_artifact({**plain, "keep_from": "start", "normalise_when": "clip"}).normalize_when == "clip"
    assert "normalize" not in plain and FrontEnd.from_artifact(plain) == spec
    with pytest.raises(UserError, match=r"Unknown setting 'frontend\.n_mel'.* Did you mean 'n_mels'"):
        FrontEnd.from_artifact({"n_mel": 3})
