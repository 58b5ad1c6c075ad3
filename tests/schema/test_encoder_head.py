"""The settings of a head on a foreign encoder: their ranges, and what they need."""

import pytest

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("model.encoder_head.l2=-1", "model.encoder_head.l2 must be 0 or more. Received: -1.0"),
        ("model.encoder_head.hidden=0", "model.encoder_head.hidden must be 1 or more"),
        ("model.encoder_head.n_prototypes=65", "model.encoder_head.n_prototypes must be 64 or less"),
        ("model.encoder_head.learning_rate=0", "must be above 0, up to 1"),
        ("model.encoder_head.transform=log", "must be one of auto, none, sqrt"),
        ("model.encoder=x model.head=auto model.encoder_head.own_scores=blend", "needs model.head=linear or mlp"),
        ("model.head=probe", "model.head=probe needs the embeddings of an encoder"),
        ("model.encoder_card=perch_v2", "describes model.encoder, which is empty"),
        ("model.encoder=x.tflite model.head=sed", "model.head=sed needs frames of a network"),
        ("model.encoder=x.tflite model.quantized=true model.weights=w", "only the head is fitted"),
    ],
)
def test_encoder_head_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        override(schema.Experiment(), settings.split())
    assert words in str(error.value)


def test_heads_on_encoders_are_accepted_with_an_encoder() -> None:
    found = override(schema.Experiment(), ["model.encoder=x.tflite", "model.head=auto", "model.encoder_head.mixup=0.2"])
    assert found.model.encoder_head == schema.EncoderHead(mixup=0.2)
