"""Rows of heads: the windows and the means of the clips, half of a clip's weight each, in the span of the windows."""

import numpy as np
import pytest
from embedded_clips import embedded_clips, head_experiment

from birdnet_fs.training.encoder_heads.rows import token_rows, training_rows


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("width", [8, 400])  # 400: more than there are windows
def test_rows_are_windows_and_means(multi_label, width):
    data = embedded_clips(multi_label=multi_label)
    x = np.random.default_rng(0).normal(size=(len(data.clip), width))
    rows = training_rows(data, x, head_experiment("linear", multi_label=multi_label))
    assert (rows.basis is None) is (width == 8)
    whole = rows.x if rows.basis is None else rows.x @ rows.basis.T
    n = len(data.clip)
    np.testing.assert_allclose(whole[:n], x, atol=1e-9)
    np.testing.assert_allclose(whole[n:], [x[data.clip == i].mean(0) for i in range(data.n_clips)], atol=1e-9)
    np.testing.assert_array_equal(rows.loss.targets[n:], data.targets)
    np.testing.assert_array_equal(rows.loss.targets[:n], data.targets[data.clip])
    assert rows.loss.weights.sum() == pytest.approx(1) and rows.loss.weights[n:].sum() == pytest.approx(0.5)
    for i in range(data.n_clips):
        assert rows.loss.weights[:n][data.clip == i].sum() == pytest.approx(0.5 / data.n_clips)
    kernel = np.random.default_rng(1).normal(size=(rows.x.shape[1], 3))
    np.testing.assert_allclose(whole @ rows.to_width(kernel), rows.x @ kernel, atol=1e-9)


def test_rows_of_tokens_are_the_windows():
    data = embedded_clips()
    tokens = np.zeros((len(data.clip), 4, 5))
    rows = token_rows(data, tokens, head_experiment("linear"))
    assert rows.x is tokens and rows.loss.weights.sum() == pytest.approx(1)
