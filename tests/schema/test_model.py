"""Checks of the model settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("model.dropout=1", "model.dropout must be in [0, 1)"),
        ("model.logit_scale=-1", "model.logit_scale must be 0"),
        ("model.block_dropout=1", "model.block_dropout must be in [0, 1)"),
        ("model.quantized=true model.head=sed model.weights=run", "model.quantized needs head=linear"),
        ("model.quantized=true", "model.quantized needs a trained network"),
        ("model.quantized=true model.weights=run training.precision=bfloat16", "needs training.precision=float32"),
    ],
)
def test_model_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)
