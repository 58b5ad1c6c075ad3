"""The transform: center, one scale or one per dimension, square roots."""

import dataclasses

import numpy as np
import pytest
import tolerances
from embedded_clips import clips_with_class_in_tokens, embedded_clips

from birdnet_fs.training.encoder_heads.transform import fit_transform


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_mean_is_0_and_the_mean_squared_length_is_1(root, each):
    data = embedded_clips()
    data.features[:, 3] = 5  # a constant dimension
    x = fit_transform(data, root=root, each=each)(data.embeddings)
    of_clips = data.means(np.square(x)).mean(0)
    np.testing.assert_allclose(data.means(x).mean(0), 0, atol=tolerances.TRANSFORMED)
    assert of_clips.sum() == pytest.approx(1, abs=tolerances.TRANSFORMED)
    if each:
        np.testing.assert_allclose(np.delete(of_clips, 3), 1 / 11, atol=tolerances.TRANSFORMED)
    else:
        before = np.sqrt(data.features) if root else data.features
        ratio = (x[1:] - x[0]).ravel() / (before[1:] - before[0] + 1e-30).ravel()
        kept = np.abs(before[1:] - before[0]).ravel() > 0.1
        np.testing.assert_allclose(ratio[kept], np.median(ratio[kept]), rtol=tolerances.TRANSFORMED * 10)


def test_equal_embeddings_become_zeros():
    data = dataclasses.replace(embedded_clips(), features=np.ones_like(embedded_clips().features))
    for each in (False, True):
        assert not fit_transform(data, root=False, each=each)(data.embeddings).any()


def test_tokens_are_transformed_one_by_one():
    data = clips_with_class_in_tokens()
    transform = fit_transform(data, root=False, each=True, tokens=True)
    tokens = transform(data.features).reshape(-1, data.features.shape[2])
    np.testing.assert_allclose(tokens.mean(0), 0, atol=tolerances.TRANSFORMED)
    np.testing.assert_allclose(tokens.var(0), 1 / data.features.shape[2], atol=tolerances.TRANSFORMED)
    assert set(transform.weights) == {"tokens/center", "tokens/scale"}
