"""Checks of the sampling settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("training.sampling.crops_per_clip=0", "training.sampling.crops_per_clip must be 1 or more"),
        (
            "training.sampling.min_clips_per_class=-1",
            "training.sampling.min_clips_per_class must be 0 (off) or more clips",
        ),
        (
            "training.sampling=inverse training.sampling.min_clips_per_class=5",
            "training.sampling draws clips by the weight",
        ),
        (
            "training.sampling.min_clips_per_class=9 training.sampling.max_clips_per_class=5",
            "training.sampling.min_clips_per_class must not be above max_clips_per_class",
        ),
    ],
)
def test_sampling_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)
