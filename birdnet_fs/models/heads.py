"""Heads: what a family's backbone becomes logits by. HEADS maps the name of a head to its function."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers


@dataclass(frozen=True)
class Backbone:
    """What a family computes from features, before any class is known.

    Attributes:
        frames: [batch, n_steps, width], in the order of time, the bands pooled away.
        embedding: [batch, width], the output of a layer named "embedding".
    """

    frames: keras.KerasTensor
    embedding: keras.KerasTensor


def mean_over_bands(x: keras.KerasTensor) -> keras.KerasTensor:
    """The frames of a convolutional map [batch, n_steps, n_bands, width]: [batch, n_steps, width]."""
    x = layers.AveragePooling2D((1, x.shape[2]), name="mean_over_bands")(x)
    return layers.Reshape((x.shape[1], x.shape[3]), name="frames")(x)


def linear(backbone: Backbone, n_classes: int, dropout: float) -> keras.KerasTensor:
    """Dropout and one dense layer on the embedding: logits float32 [batch, n_classes]."""
    x = layers.Dropout(dropout, name="dropout")(backbone.embedding)
    return layers.Dense(n_classes, dtype="float32", name="logits")(x)


HEADS: dict[str, Callable[[Backbone, int, float], keras.KerasTensor]] = {"linear": linear}
