"""Mel bands without an FFT bin against librosa, which computes the filters on its own."""

import warnings

import numpy as np
import pytest
import uncompiled_librosa as librosa

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.empty_bands import check_bands, empty_bands, smallest_n_fft
from birdnet_fs.frontend.presets import PRESETS
from birdnet_fs.schema import FrontEnd

BATS = FrontEnd(sample_rate_hz=250_000, segment_s=0.1, fmin_hz=0.0, fmax_hz=125_000.0)
NARROW = FrontEnd(
    sample_rate_hz=16_000, n_fft=512, win_length=512, n_mels=160, fmin_hz=20.0, fmax_hz=8_000.0, bands="mel_htk"
)


def filled_in_librosa(spec: FrontEnd, n_fft: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # librosa warns about the empty filters that are compared here
        filters = librosa.filters.mel(
            sr=spec.sample_rate_hz,
            n_fft=n_fft,
            n_mels=spec.n_mels,
            fmin=spec.fmin_hz,
            fmax=spec.fmax_hz,
            htk=spec.bands == "mel_htk",
        )
    return filters.any(axis=1)


@pytest.mark.parametrize("spec", [BATS, NARROW])
def test_empty_bands_and_the_n_fft_that_fills_them_are_those_of_librosa(spec: FrontEnd) -> None:
    assert empty_bands(spec) == tuple(np.flatnonzero(~filled_in_librosa(spec, spec.n_fft)).tolist()) != ()
    found = smallest_n_fft(spec)
    assert filled_in_librosa(spec, found).all()
    assert not any(filled_in_librosa(spec, n_fft).all() for n_fft in range(spec.n_fft, found, 2))


def test_presets_have_no_empty_bands() -> None:
    assert not {name for name, spec in PRESETS.items() if empty_bands(spec)}


def test_empty_bands_are_named_and_refused_above_a_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    check_bands(FrontEnd())
    assert capsys.readouterr().err == ""
    check_bands(BATS)
    said = capsys.readouterr().err
    assert f"{len(empty_bands(BATS))} of 128 mel bands contain no FFT bin" in said and "bands 0-3, 6-9" in said
    assert f"frontend.n_fft that fills them is {smallest_n_fft(BATS)} (now 1024)" in said
    with pytest.raises(UserError, match=r"More than 25% of the bands are empty: .* of 1000 mel bands"):
        check_bands(FrontEnd(n_mels=1000))
