"""A head that also reads own scores of the encoder: its last layer is dense on both."""

import numpy as np
import pytest

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.models import with_outputs
from birdnet_fs.models.heads.own_scores import build_head_with_own_scores


def settings(head: str) -> schema.Model:
    return schema.Model(encoder="x.tflite", head=head, encoder_head=schema.EncoderHead(transform="sqrt"))


def test_logits_are_a_dense_layer_on_the_transformed_embedding_and_the_scores():
    network = build_head_with_own_scores(settings("linear"), (7,), 2, 3)
    random = np.random.default_rng(0)
    for variable in network.weights:
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    weights = {variable.path: variable.numpy() for variable in network.weights}
    x = random.uniform(0, 4, (5, 7)).astype(np.float32)
    embedding = (np.sqrt(x[:, :4]) - weights["embedding/center"]) * weights["embedding/scale"]
    expected = np.concatenate([embedding, x[:, 4:]], 1) @ weights["logits/kernel"] + weights["logits/bias"]
    np.testing.assert_allclose(network.predict(x, verbose=0), expected, rtol=1e-5)
    given = with_outputs(network, ["embedding"]).predict(x, verbose=0)
    np.testing.assert_allclose(given, embedding, rtol=1e-5)


def test_heads_without_a_dense_last_layer_are_refused():
    with pytest.raises(UserError, match=r"own_scores needs model\.head=linear or mlp; set it to none"):
        build_head_with_own_scores(settings("prototypes"), (7,), 2, 3)


def test_without_scores_it_is_the_head_itself():
    assert build_head_with_own_scores(settings("linear"), (4,), 2, 0).name == "linear_on_embedding"
