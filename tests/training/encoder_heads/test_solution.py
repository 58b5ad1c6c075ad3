"""Rescaled heads: the Keras network of the new weights gives scale x logits + shift."""

import numpy as np
import pytest
import tolerances
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.models.heads.on_embedding import build_encoder_head
from birdnet_fs.training.encoder_heads.linear import solve_linear
from birdnet_fs.training.encoder_heads.prototypes import solve_prototypes
from birdnet_fs.training.encoder_heads.transform import fit_transform


@pytest.mark.parametrize(("head", "solve"), [("linear", solve_linear), ("prototypes", solve_prototypes)])
def test_rescaled_logits_are_those_of_the_new_weights(head, solve):
    data, experiment = embedded_clips(), head_experiment(head, transform="sqrt", l2=0.01)
    (solution,) = solve(data, fit_transform(data, root=True, each=False), [experiment.model], experiment)
    before, shift = solution.score(data), np.array([0.5, 0.0, -1.0])
    after = solution.rescaled(3.0, shift)
    np.testing.assert_allclose(after.score(data), 3 * before + shift, atol=tolerances.PROTOTYPE_LOGITS)
    network = build_encoder_head(after.model, data.input_shape, 3)
    for variable in network.weights:
        variable.assign(after.weights[variable.path])
    given = np.asarray(network.predict_on_batch(data.features))
    np.testing.assert_allclose(given, 3 * before + shift, atol=tolerances.PROTOTYPE_LOGITS * 30)
