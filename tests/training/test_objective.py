"""Objectives: the loss that the settings choose, and the accuracy in training."""

import math

import numpy as np
import pytest
import torch

from birdnet_fs import models
from birdnet_fs.schema import Loss, Training
from birdnet_fs.training.cosine_losses import arcface, circle
from birdnet_fs.training.losses import (
    asymmetric,
    binary_cross_entropy,
    cross_entropy,
    focal_binary_cross_entropy,
    focal_cross_entropy,
    soft_auc,
)
from birdnet_fs.training.objective import AccuracyCounter, build_loss, supervised_objective

LOGITS = torch.tensor(np.random.default_rng(0).normal(0, 3, (6, 4)), dtype=torch.float32)
SOFT = torch.softmax(torch.tensor(np.random.default_rng(1).normal(size=(6, 4)), dtype=torch.float32), 1)
HARD = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
COSINES = np.random.default_rng(2).uniform(-0.8, 0.8, (6, 4))


def test_build_loss_follows_the_settings() -> None:
    for settings, multi_label, expected in (
        (Training(), True, binary_cross_entropy),
        (Training(), False, cross_entropy),
        (Training(loss=Loss("ce")), False, cross_entropy),
        (Training(loss=Loss("focal")), False, focal_cross_entropy),
        (Training(loss=Loss("focal")), True, focal_binary_cross_entropy),
        (Training(loss=Loss("asymmetric")), True, asymmetric),
        (Training(loss=Loss("soft_auc")), True, soft_auc),
    ):
        found = build_loss(settings, multi_label=multi_label)(LOGITS, SOFT, 0.1)
        assert found.item() == expected(LOGITS, SOFT, 0.1).item()
    strong = build_loss(Training(loss=Loss("focal", focal_gamma=4.0)), multi_label=False)(LOGITS, SOFT, 0.0)
    assert strong.item() == focal_cross_entropy(LOGITS, SOFT, gamma=4.0).item()
    logits = torch.tensor(30 * COSINES)
    for settings, expected in (
        (Training(loss=Loss("arcface")), arcface(logits, HARD, scale=30.0, margin=0.5)),
        (Training(loss=Loss("arcface", margin=0.2)), arcface(logits, HARD, scale=30.0, margin=0.2)),
        (Training(loss=Loss("circle")), circle(logits, HARD, scale=30.0, margin=0.4)),
    ):
        assert build_loss(settings, multi_label=False, scale=30.0)(logits, HARD, 0.0).item() == expected.item()


def test_accuracy_counter_counts_rows_and_classes_and_resets() -> None:
    counter = AccuracyCounter()
    true = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 1, 0]]).bool()
    counter.add(true[:2], torch.tensor([[1, 0, 0], [1, 0, 0]]).bool())
    counter.add(true[2:], torch.tensor([[0, 1, 0]]).bool())
    found = counter.pop_means("abc")
    assert found.pop("train_acc") == pytest.approx(2 / 3)
    np.testing.assert_equal(list(found.values()), [1.0, 0.5, math.nan])
    assert counter.pop_means("abc") == {}


@pytest.mark.parametrize("multi_label", [False, True])
def test_supervised_objective_predicts_by_argmax_or_threshold(multi_label: bool) -> None:
    model = models.build("cnn/tiny", input_shape=(32, 32, 1), n_classes=3)
    objective = supervised_objective(model, Training(), multi_label=multi_label)
    assert objective.monitor == "val_macro_auroc" and objective.predictions is not None
    targets = torch.tensor([[0.6, 0.4, 0.0], [1.0, 1.0, -1.0]])
    true, predicted = objective.predictions(torch.tensor([[-2.0, -1.0, -3.0], [1.0, 2.0, 3.0]]), targets)
    if multi_label:
        assert true.int().tolist() == [[1, 0, 0], [1, 1, 0]]
        assert predicted.int().tolist() == [[0, 0, 0], [1, 1, 0]]  # unknown targets are not predicted
    else:
        assert true.int().tolist() == [[1, 0, 0], [1, 0, 0]]
        assert predicted.int().tolist() == [[0, 1, 0], [0, 0, 1]]
