"""The loss of an episode by the formula of the paper, and training with a learned distance."""

import math

import keras
import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs import models
from birdnet_fs.runs.run import model_weights
from birdnet_fs.schema import (
    Episodes,
    Schedule,
    Training,
)
from birdnet_fs.training.episodic.evaluation import head_method
from birdnet_fs.training.episodic.objective import episodic_objective
from birdnet_fs.training.loop import run_epochs
from birdnet_fs.training.objective import AccuracyCounter


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


class Tones:
    """Episodes of made-up features: ripples of three widths over the bands, each a class."""

    clips = ()

    def __len__(self) -> int:
        return 25

    def epoch(self, epoch: int, first: int = 0):
        rng = torch.Generator().manual_seed(epoch)
        for _ in range(len(self)):
            x = torch.randn(3 * 4, 16, 16, 1, generator=rng)
            for c in range(3):
                x[4 * c : 4 * c + 4] += 3 * torch.sin(torch.pi * (torch.arange(16) + 0.5) / 2**c)[:, None]
            yield x, torch.eye(4)[:3].repeat_interleave(4, 0), torch.arange(12)


@pytest.mark.parametrize(("distance", "scale"), [("euclidean", 0.5), ("cosine", 10.0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_that_of_the_paper(distance: str, scale: float, smoothing: float) -> None:
    """Cross-entropy over minus scaled squared distances (or scaled cosines) to the means, in float64, one by one."""
    n_way, n_shot, n_query, width = 3, 2, 4, 48
    x = np.random.default_rng(0).normal(size=(n_way, n_shot + n_query, width))
    total = 0.0
    for c in range(n_way):
        for query in x[c, n_shot:]:
            logits = []
            for other in range(n_way):
                prototype = x[other, :n_shot].sum(0) / n_shot
                if distance == "cosine":
                    logits.append(scale * query @ prototype / np.linalg.norm(query) / np.linalg.norm(prototype))
                else:
                    logits.append(-scale * np.sum((query - prototype) ** 2))
            log_p = np.array(logits) - np.logaddexp.reduce(logits)
            target = np.full(n_way, smoothing / n_way)
            target[c] += 1 - smoothing
            total -= target @ log_p / (n_way * n_query)
    loss = episodic_objective(network(distance, scale), Episodes(n_way=n_way, n_shot=n_shot, n_query=n_query)).loss
    flat = torch.from_numpy(x.reshape(-1, width).astype(np.float32))
    targets = torch.eye(4)[[2, 0, 3]].repeat_interleave(n_shot + n_query, 0)
    assert loss(flat, targets, smoothing).item() == pytest.approx(total, rel=tolerances.LOSS)


def test_loss_of_mixed_queries_is_that_of_mixup() -> None:
    """Share by share: lambda times the cross-entropy of the one class, and the rest of that of the other."""
    n_way, n_shot, n_query, width = 3, 2, 4, 48
    rng = np.random.default_rng(1)
    x = rng.normal(size=(n_way, n_shot + n_query, width))
    others, shares = rng.integers(0, n_way, (n_way, n_query)), rng.beta(0.4, 0.4, (n_way, n_query))
    classes = [2, 0, 3]  # of the run's four
    targets = np.zeros((n_way, n_shot + n_query, 4))
    total, right = 0.0, 0
    for c in range(n_way):
        targets[c, :n_shot, classes[c]] = 1
        for q in range(n_query):
            query, other, share = x[c, n_shot + q], others[c, q], shares[c, q]
            logits = np.array([-np.sum((query - x[way, :n_shot].sum(0) / n_shot) ** 2) for way in range(n_way)])
            log_p = logits - np.logaddexp.reduce(logits)
            total -= (share * log_p[c] + (1 - share) * log_p[other]) / (n_way * n_query)
            targets[c, n_shot + q, classes[c]] += share
            targets[c, n_shot + q, classes[other]] += 1 - share
            right += int(log_p.argmax() == (c if other == c or share > 0.5 else other))
    objective = episodic_objective(network("euclidean"), Episodes(n_way=n_way, n_shot=n_shot, n_query=n_query))
    flat, flat_targets = (torch.from_numpy(a.reshape(18, -1).astype(np.float32)) for a in (x, targets))
    assert objective.loss(flat, flat_targets, 0.0).item() == pytest.approx(total, rel=tolerances.LOSS)
    counter = AccuracyCounter()
    counter.add(*objective.predictions(flat, flat_targets))
    assert counter.pop_means([])["train_acc"] == pytest.approx(right / 12)


def test_training_accuracy_is_that_of_the_queries() -> None:
    """Embeddings that lie on the axis of their class, but for one query that lies on another's."""
    settings = Episodes(n_way=3, n_shot=2, n_query=2)
    classes = [2, 0, 3]  # of the run's four
    x = np.repeat(np.eye(48)[classes], 4, axis=0).astype(np.float32)
    x[3] = np.eye(48)[3]
    targets = np.repeat(np.eye(4)[classes], 4, axis=0).astype(np.float32)
    predictions = episodic_objective(network("euclidean"), settings).predictions
    counter = AccuracyCounter()
    with torch.no_grad():
        counter.add(*predictions(torch.from_numpy(x), torch.from_numpy(targets)))
    found = counter.pop_means("abcd")
    assert found.pop("train_acc") == pytest.approx(5 / 6)
    np.testing.assert_equal(
        found, {f"train/per_class_accuracy/{c}": v for c, v in zip("abcd", [1.0, math.nan, 0.5, 1.0], strict=True)}
    )
    assert counter.pop_means("abcd") == {}


def test_learned_distance_is_trained() -> None:
    model = network("learned")
    before = model_weights(model)
    settings = Episodes(n_way=3, n_shot=2, n_query=2)
    fitted = run_epochs(
        model,
        Tones(),
        Training(epochs=3, learning_rate=3e-3, schedule=Schedule(warmup_epochs=0)),
        objective=episodic_objective(model, settings),
    )
    moved = {path for path, value in fitted.weights.items() if (value != before[path]).any()}
    assert {f"logits/{layer}/{part}" for layer in ("dense1", "dense2") for part in ("kernel", "bias")} <= moved
    assert {"logits/prototypes", "logits/centre"}.isdisjoint(moved)  # an episode brings its own
    assert fitted.history[-1]["train_loss"] < 0.6 * fitted.history[0]["train_loss"]
    head, method = model.get_layer("logits"), head_method(model)
    x = np.random.default_rng(0).normal(size=(20, 48)).astype(np.float32)
    support, query = x[:12].reshape(2, 2, 3, 48), x[12:].reshape(2, 2 * 2, 48)
    scores = method(support, query)
    for e in range(2):
        for q in range(4):
            for c in range(2):
                pair = np.concatenate([query[e, q], support[e, c].mean(0)])[None]
                expected = -head.learned(torch.from_numpy(pair), training=False).item()
                assert scores[e, q, c] == pytest.approx(expected, abs=tolerances.PROTOTYPES)
