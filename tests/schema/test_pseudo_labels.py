"""Checks of the pseudo-label settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment, PseudoLabels


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("pseudo_labels.threshold=1", "pseudo_labels.threshold must be in [0, 1)"),
        ("pseudo_labels.floor=-0.1", "pseudo_labels.floor must be in [0, 1)"),
        ("pseudo_labels.power=0", "pseudo_labels.power must be above 0"),
        ("pseudo_labels.amount=-1", "pseudo_labels.amount must be 0 or more"),
        ("pseudo_labels.mix=2", "pseudo_labels.mix must be in [0, 1]"),
        (
            "pseudo_labels.table=a.csv pseudo_labels.amount=0 pseudo_labels.mix=0",
            "so that pseudo_labels.table would not be used",
        ),
    ],
)
def test_pseudo_labels_refuse_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)


def test_pseudo_labels_are_off_by_default() -> None:
    assert not PseudoLabels().table
