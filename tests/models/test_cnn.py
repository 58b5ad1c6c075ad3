"""The small residual networks: parameter counts by arithmetic, and the input channel without stationary sound."""

import itertools

import keras
import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs import models

SHAPE, N_CLASSES = (48, 40, 1), 4


def build(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build(name, input_shape=SHAPE, n_classes=N_CLASSES)


def decibels(n: int) -> torch.Tensor:
    return torch.randn((n, *SHAPE), generator=torch.Generator().manual_seed(0)) * 10 - 40


def by_hand(stem: int, *blocks: int) -> int:
    """Trainable numbers of a cnn: bn0, convolutions of 3x3 and 1x1, 2 for each channel of a BatchNorm, logits."""
    total = 2 * 2 + 9 * 2 * stem + 2 * stem
    for n_in, n_out in itertools.pairwise((stem, *blocks)):
        total += 9 * n_in * n_out + 9 * n_out * n_out + n_in * n_out + 3 * 2 * n_out
    return total + blocks[-1] * N_CLASSES + N_CLASSES


@pytest.mark.parametrize(
    ("name", "trainable"), [("cnn/tiny", by_hand(16, 24, 32, 48)), ("cnn/small", by_hand(24, 48, 96, 192))]
)
def test_the_cnn_has_the_parameters_that_arithmetic_gives(name, trainable):
    assert sum(int(np.prod(weight.shape)) for weight in build(name).trainable_weights) == trainable


def test_the_cnn_sees_events_over_a_stationary_background():
    """The second channel of `bands` is the features without each band's mean: a steady hum leaves no trace in it."""
    model = build("cnn/tiny")
    bands = keras.Model(model.input, model.get_layer("bands").output)
    x = decibels(2)
    hum = x + torch.linspace(-20, 20, SHAPE[1]).reshape(1, 1, -1, 1)
    quiet, loud = bands(x), bands(hum)
    assert torch.equal(quiet[..., 0], x[..., 0])
    assert float((quiet[..., 1] - loud[..., 1]).abs().max()) < tolerances.DECIBELS_FLOAT32
    assert float((quiet[..., 1] - (x - x.mean(1, keepdim=True))[..., 0]).abs().max()) < tolerances.DECIBELS_FLOAT32
