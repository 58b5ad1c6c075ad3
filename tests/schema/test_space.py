"""Search spaces: checks of their distributions."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.schema import Categorical, Float, Int, Space


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float(1.0, 0.1), "must have low below high"),
        (lambda: Float(0.0, 0.1, log=True), "log=True needs numbers above 0"),
        (lambda: Float(0.1, 1.0, log=True, step=0.1), "not both"),
        (lambda: Float(0.1, float("nan")), "must have low below high"),
        (lambda: Int(1, 2.5), "whole numbers"),
        (lambda: Categorical(()), "one or more distinct options"),
        (lambda: Categorical((1, 1)), "one or more distinct options"),
        (lambda: Categorical("abc"), "a tuple of options"),
        (lambda: Space({}), "one or more settings"),
        (lambda: Space({"seed": 3}), "seed must be a Float, an Int or a Categorical"),
        (lambda: Space({"seed": Int(1, 2)}, pruner="mean"), "pruner must be one of median"),
    ],
)
def test_distributions_refuse_wrong_ranges(make, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_to_dict_names_the_kind_of_each_distribution() -> None:
    space = Space({"model.dropout": Float(0.0, 0.5), "training.batch_size": Categorical((16, 32))})
    assert space.to_dict() == {
        "model.dropout": {"kind": "Float", "low": 0.0, "high": 0.5, "log": False, "step": 0.0},
        "training.batch_size": {"kind": "Categorical", "options": (16, 32)},
    }
