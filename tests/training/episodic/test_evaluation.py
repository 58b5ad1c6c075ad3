"""Accuracy and loss over episodes, query by query in float64."""

import keras
import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs import models
from birdnet_fs.data.episodes import draw_episodes
from birdnet_fs.training.episodic.evaluation import episode_result


def network(distance: str, scale: float = 1.0) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build(
        "cnn/tiny",
        input_shape=(16, 16, 1),
        n_classes=4,
        dropout=0.0,
        head="prototypes",
        distance=distance,
        logit_scale=scale,
    )


@pytest.mark.parametrize(("distance", "scale"), [("euclidean", 0.5), ("cosine", 10.0), ("learned", 2.0)])
def test_episode_result_is_that_of_the_head(distance: str, scale: float) -> None:
    """Cross-entropy and accuracy over episodes, query by query in float64."""
    model = network(distance, scale)
    head = model.get_layer("logits")
    x = np.random.default_rng(0).normal(size=(40, 48)).astype(np.float32)
    x += 0.3 * np.repeat(np.random.default_rng(1).normal(size=(4, 48)), 10, axis=0).astype(np.float32)
    labels = np.repeat(list("abcd"), 10)
    episodes = draw_episodes(
        labels, [str(i) for i in range(40)], n_way=3, n_shot=2, n_query=3, n_episodes=20, seed=0, recordings="any"
    )
    total, right = 0.0, []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        prototypes = x[support].astype(np.float64).mean(1)
        for way, own in enumerate(query):
            for q in x[own].astype(np.float64):
                if distance == "cosine":
                    logits = scale * prototypes @ q / np.linalg.norm(prototypes, axis=1) / np.linalg.norm(q)
                elif distance == "euclidean":
                    logits = -scale * np.square(prototypes - q).sum(1)
                else:
                    pairs = np.concatenate([np.broadcast_to(q, prototypes.shape), prototypes], axis=1)
                    learned = head.learned(torch.from_numpy(pairs.astype(np.float32)), training=False)
                    logits = -scale * keras.ops.convert_to_numpy(learned)[:, 0].astype(np.float64)
                total -= logits[way] - np.logaddexp.reduce(logits)
                right.append(logits.argmax() == way)
    result, loss = episode_result(model, x, episodes)
    assert result.method == distance
    assert loss == pytest.approx(total / len(right), rel=tolerances.LOSS)
    assert result.accuracy == pytest.approx(np.mean(right)) and 1 / 3 < np.mean(right) < 1
