"""Checks and properties of the augmentation settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Augmentation, CutMix, Experiment, Mixup, Noise


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("augmentation.noise.snr_db=[20,0]", "noise.snr_db must be [lowest, highest]. Received: [20.0, 0.0]"),
        ("augmentation.pitch.p=1.5", "augmentation.pitch.p must be in [0, 1]. Received: 1.5"),
        ("augmentation.time_masks.n=-1", "augmentation.time_masks.n must be 0 or more"),
        ("augmentation.time_masks.lengths=[5,999]", "lengths must be 313 or less, the time axis of the features"),
        ("augmentation.freq_masks.lengths=[-5,9]", "augmentation.freq_masks.lengths must be 0 or more"),
        ("augmentation.stretch.rate=[0,1]", "augmentation.stretch.rate must be above 0"),
        ("augmentation.mixup.alpha=0", "augmentation.mixup.alpha must be above 0"),
        ("augmentation.warp.time=0.5", "augmentation.warp.time must be below 0.5"),
        ("augmentation.pitch.semitones=40", "augmentation.pitch.semitones must be 24 or less"),
        (
            "augmentation.animal_spot.p=1 augmentation.pitch.p=0.1",
            "augmentation.animal_spot changes time and pitch by itself; set",
        ),
        (
            "augmentation.filters.low_pass_p=1 augmentation.filters.high_pass_p=1 "
            "augmentation.filters.high_pass_hz=[100,5000]",
            "augmentation.filters.high_pass_hz must be below low_pass_hz",
        ),
        (
            "augmentation.filters.low_pass_p=1 augmentation.filters.low_pass_hz=[100,20000]",
            "must be 16000 Hz (half of the rate)",
        ),
        (
            "augmentation.noise.exponent=[1,2] data.background=set=night",
            "data.background gives recorded noise; set one of them",
        ),
    ],
)
def test_augmentation_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)


def test_noise_exponent_is_accepted_without_background_recordings() -> None:
    assert override(Experiment(), ["augmentation.noise.exponent=[1,2]"]).augmentation.noise.exponent == (1.0, 2.0)


def test_mixes_is_the_first_setting_that_mixes_clips() -> None:
    assert Augmentation().mixes == ""
    assert Augmentation(cutmix=CutMix(0.5)).mixes == "augmentation.cutmix.p"
    assert Augmentation(mixup=Mixup(0.5), cutmix=CutMix(0.5)).mixes == "augmentation.mixup.p"


def test_uses_background_with_noise() -> None:
    assert Augmentation(noise=Noise(0.5)).uses_background and not Augmentation().uses_background
