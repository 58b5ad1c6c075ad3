"""Candidates of head "linear" and their warm starts."""

import numpy as np
import tolerances
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.training.encoder_heads.linear import solve_linear
from birdnet_fs.training.encoder_heads.transform import fit_transform


def test_candidates_do_not_depend_on_each_other():
    data = embedded_clips()
    transform = fit_transform(data, root=True, each=False)
    models = [head_experiment("linear", l2=l2).model for l2 in (1e-1, 1e-3)]
    both = solve_linear(data, transform, models, head_experiment("linear"))
    (alone,) = solve_linear(data, transform, models[1:], head_experiment("linear"))
    np.testing.assert_allclose(
        both[1].weights["logits/kernel"], alone.weights["logits/kernel"], atol=tolerances.LOGISTIC
    )
    assert not np.allclose(both[0].weights["logits/kernel"], alone.weights["logits/kernel"], atol=0.1)
