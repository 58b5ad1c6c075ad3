"""Checks and properties of the data settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Data, Experiment


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("data.limit=-5", "data.limit must be 0"),
        ("data.n_folds=1", "data.n_folds must be 2 or more. Received: 1"),
        ("data.fold=-2", "data.fold must be -1 (none held out) or the number of a fold"),
        ("data.secondary_target=0 data.multi_label=true", "data.secondary_target must be in (0, 1]"),
        ("data.secondary=mask", "data.secondary=mask needs data.multi_label=true"),
        ("data.binary_label=call", "data.binary_label=call needs data.multi_label=true"),
        ("data.val_fraction=1", "data.val_fraction must be in [0, 1)"),
        ("data.segment_hop_s=-1", "data.segment_hop_s must be 0 or more seconds"),
    ],
)
def test_data_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)


def test_activation_follows_multi_label() -> None:
    assert Data(multi_label=True).activation == "sigmoid" and Data().activation == "softmax"
