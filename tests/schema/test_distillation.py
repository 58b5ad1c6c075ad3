"""Checks and properties of the distillation settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Distillation, Experiment


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("distillation.alpha=1.1", "distillation.alpha must be in [0, 1]"),
        ("distillation.temperature=0", "distillation.temperature must be above 0"),
        ("distillation.features=-1", "distillation.features must be 0 (off) or more"),
        ("distillation.rounds=0", "distillation.rounds must be 1 or more"),
        ("distillation.rounds=2 distillation.teacher=run", "distillation.rounds needs distillation.teacher=self"),
        ("distillation.teacher=a.CSV distillation.features=1", "a table holds probabilities and no embeddings"),
    ],
)
def test_distillation_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)


def test_saved_is_a_table_of_probabilities() -> None:
    assert Distillation(teacher="scores.csv").saved and not Distillation(teacher="run").saved
