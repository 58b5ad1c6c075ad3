"""Synthetic noise: every kind is reproducible and has the spectrum it is named after."""

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.synthetic.noise import KINDS, LEVEL_DB, synthesize_noise
from birdnet_fs.data.synthetic.song import SAMPLE_RATE_HZ


def shares(kind, number=0):
    """Share of the power in each kHz."""
    power = np.abs(np.fft.rfft(synthesize_noise(kind, 4.0, number=number).astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(4 * SAMPLE_RATE_HZ, 1 / SAMPLE_RATE_HZ)
    found = np.histogram(hz, bins=np.arange(0, 17_000, 1000), weights=power)[0]
    return found / found.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_repeats_and_differs_by_seed_and_number(kind):
    one = synthesize_noise(kind, 2.0)
    assert one.dtype == np.float32 and len(one) == 2 * SAMPLE_RATE_HZ and np.abs(one).max() <= 1
    level_db = 20 * np.log10(np.sqrt(np.mean(one.astype(np.float64) ** 2)))
    assert LEVEL_DB[0] - 1 < level_db < LEVEL_DB[1] + 1
    assert (one == synthesize_noise(kind, 2.0)).all()
    for other in (synthesize_noise(kind, 2.0, seed=1), synthesize_noise(kind, 2.0, number=1)):
        assert np.abs(np.corrcoef(one, other)[0, 1]) < 0.3


def test_kinds_have_their_spectra():
    found = {kind: np.mean([shares(kind, number) for number in range(4)], axis=0) for kind in KINDS}
    assert found["engine"][:2].sum() > 0.8 and found["wind"][:2].sum() > 0.6
    assert found["hiss"][4:].sum() > 0.2 and found["hiss"].max() < 0.6
    assert found["insects"][3:9].sum() > 0.7
    assert found["rain"][1:8].sum() > 0.5


def test_an_unknown_kind_is_refused_with_the_nearest():
    with pytest.raises(UserError, match="Did you mean 'rain'"):
        synthesize_noise("rian", 1.0)
