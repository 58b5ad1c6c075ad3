"""Rescaled heads: the Keras network of the new weights gives scale x logits + shift."""

import numpy as np
import pytest
import tolerances
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.models.heads.on_embedding import build_encoder_head
from birdnet_fs.training.encoder_heads.choosing import KINDS, candidates, solve


@pytest.mark.parametrize("head", [head for head, kind in KINDS.items() if not kind.needs_tokens])
def test_rescaled_logits_are_those_of_the_new_weights(head):
    data, experiment = embedded_clips(), head_experiment(head, epochs=2)
    solution = solve(data, candidates(data, experiment.model)[:1], experiment)[0]
    before, shift = solution.score(data), np.array([0.5, 0.0, -1.0])
    after = solution.rescaled(3.0, shift)
    np.testing.assert_allclose(after.score(data), 3 * before + shift, atol=tolerances.PROTOTYPE_LOGITS)
    network = build_encoder_head(after.model, data.input_shape, 3)
    for variable in network.weights:
        if "seed_generator" not in variable.path:
            variable.assign(after.weights[variable.path])
    given = np.asarray(network.predict_on_batch(data.features))
    np.testing.assert_allclose(given, 3 * before + shift, atol=tolerances.PROTOTYPE_LOGITS * 30)
