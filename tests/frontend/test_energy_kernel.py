"""Compiled loop for band energies: every FFT length, number of frames and selection of frames."""

import numpy as np
import pytest
import tolerances
from signals import sounds

from birdnet_fs.frontend import in_numpy, preset
from birdnet_fs.frontend.definition import define
from birdnet_fs.frontend.energy_kernel import fft_plan
from birdnet_fs.frontend.in_numpy import log_mel, log_mel_reference
from birdnet_fs.schema import FrontEnd


@pytest.mark.parametrize("n_fft", [16, 18, 400, 500, 1026, 4096])  # 2 * 9, 4 * 125, 2 * 27 * 19: every kind of stage
def test_energies_of_any_even_n_fft_are_accurate(n_fft):
    for top_db in (80.0, 0.0):  # float32 and float64
        spec = FrontEnd(n_fft=n_fft, win_length=n_fft, hop_length=n_fft // 2, n_mels=8, top_db=top_db)
        x = sounds(spec, 1, 20_000)
        assert np.abs(log_mel(x, spec) - log_mel_reference(x, spec)).max() <= tolerances.FRONTEND_DB


@pytest.mark.parametrize("n_frames", [1, 7, 8, 9, 64, 65, 73])
def test_energies_of_any_number_of_frames_are_accurate(n_frames):
    """Frames are processed in blocks of 8 and groups of 64; those at the ends contain padding."""
    spec = preset("panns")
    x = sounds(spec, 1, max(spec.min_samples, (n_frames - 1) * spec.hop_length))
    assert np.abs(log_mel(x, spec) - log_mel_reference(x, spec)).max() <= tolerances.FRONTEND_FLOAT64


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_energies_of_a_frame_do_not_depend_on_other_frames(dtype):
    """Frames computed again in float64 may be at the ends or inside, adjacent or not."""
    spec, rng = preset("cnn_32k"), np.random.default_rng(3)
    x = sounds(spec, 1)[0]
    definition = define(spec, spec.n_samples)
    whole = np.zeros((definition.n_frames, spec.n_mels), np.float32)
    in_numpy._transform(x, np.arange(definition.n_frames), definition, dtype, whole)
    for n_apart in range(1, 40):
        steps = rng.integers(1, 4, n_apart)
        which = np.cumsum(steps) - 1 if n_apart % 2 else definition.n_frames - np.cumsum(steps)[::-1]
        part = np.zeros_like(whole)
        in_numpy._transform(x, which, definition, dtype, part)
        assert np.array_equal(part[which], whole[which])
        assert not np.delete(part, which, axis=0).any()


@pytest.mark.parametrize("n_fft", [2, 16, 18, 500, 1026])
def test_fft_plan_is_a_permutation_of_the_bins(n_fft):
    plan = fft_plan(n_fft, "float64")
    assert np.prod(plan.radices) == n_fft // 2
    assert sorted(plan.bin_row[:-1]) == list(range(n_fft // 2)) and plan.bin_row[-1] == plan.bin_row[0]
    twiddle = plan.twiddle[:, 0] + 1j * plan.twiddle[:, 1]
    np.testing.assert_allclose(np.fft.fft(twiddle), n_fft * np.eye(n_fft)[n_fft - 1], atol=1e-9 * n_fft)
