"""The rows of head "linear", and warm starts."""

import numpy as np
import pytest
import tolerances
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.training.encoder_heads.linear import solve_linear, training_rows
from birdnet_fs.training.encoder_heads.transform import fit_transform


def test_rows_are_means_and_with_one_label_windows_too():
    for multi_label in (True, False):
        data = embedded_clips(multi_label=multi_label)
        x, targets, weights = training_rows(data, data.features, multi_label=multi_label)
        n = 0 if multi_label else len(data.clip)
        np.testing.assert_allclose(x[n:], data.means(data.features))
        np.testing.assert_array_equal(targets[n:], data.targets)
        assert weights.sum() == pytest.approx(1) and weights[n:].sum() == pytest.approx(1 if multi_label else 0.5)
        for i in range(data.n_clips if n else 0):
            assert weights[:n][data.clip == i].sum() == pytest.approx(0.5 / data.n_clips)


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
