"""Heads: what a family's backbone becomes logits by. HEADS maps the name of a head to its function.

linear: one dense layer on the embedding.

sed: attention over time, logits of every time step beside those of the segment. Source: Kong et al. 2020, "PANNs",
https://arxiv.org/abs/1912.10211, `Cnn14_DecisionLevelAtt` in the authors' code
(https://github.com/qiuqiangkong/audioset_tagging_cnn, pytorch/models.py), after Kong et al. 2019,
https://arxiv.org/abs/1903.00765. As there: steps smoothed by max plus mean over three of them, dropout, a dense layer
with ReLU as wide as the frames, dropout, and for each class a softmax over time of attention clamped at +-10 (the tanh
that BirdCLEF networks take instead lets no step weigh more than 7.4 times another: a call in one of 30 steps would
keep a fifth of its logit). Left out: a BatchNorm they make and never call. Ours: they sum attention times sigmoid and
train on that; here the logits of a segment are the attention-weighted mean of the frames' logits (as the BirdCLEF
networks are trained), because the logit of their sum has no gradient left where the frames are sure and is no logit
of a softmax, while this mean is right for both activations.

cosine: scale times the cosine between the embedding and the weights of a class, no bias; trained by ArcFace, Circle
or plain cross-entropy (training/losses.py), which alone see the labels. Source: Deng et al. 2019, "ArcFace",
https://arxiv.org/abs/1801.07698.

prototypes: the distance of the embedding to a point for each class, of few-shot networks (prototype_head.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers, ops

from birdnet_fs.models.prototype_head import PrototypeLogits

ATTENTION_CLAMP = 10.0  # PANNs
SMALLEST_SQUARE = 1e-12  # below the squared length of any embedding that means something; a zero vector gives zeros
WEIGHTS = ("logits/", "frame_hidden/", "frame_attention/", "frame_logits/")  # paths of a head's variables start so


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


def sed(backbone: Backbone, n_classes: int, dropout: float) -> keras.KerasTensor:
    """Attention over time: logits float32 [batch, n_classes].

    The layer "frame_logits" gives those of every time step [batch, n_steps, n_classes], "frame_hidden" what they are
    made of. The backbone's embedding is not used: `models.with_outputs` gives the mean of "frame_hidden" over time.
    With one or two steps the smoothing makes all alike, and attention has nothing to choose.
    """
    n_steps, width = backbone.frames.shape[1:]
    x = layers.Reshape((n_steps, 1, width), name="frame_map")(backbone.frames)
    highest = layers.MaxPooling2D((3, 1), 1, padding="same", name="frame_max")(x)
    # torch's mean counts the zeros beyond the ends
    padded = layers.ZeroPadding2D(((1, 1), (0, 0)), name="frame_pad")(x)
    mean = layers.AveragePooling2D((3, 1), 1, name="frame_mean")(padded)
    x = layers.Add(name="frame_smooth")([highest, mean])
    x = layers.Reshape((n_steps, width), name="frame_steps")(x)
    x = layers.Dropout(dropout, name="frame_dropout")(x)
    x = layers.Dense(width, activation="relu", name="frame_hidden")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    attention = layers.Dense(n_classes, dtype="float32", name="frame_attention")(x)
    frame_logits = layers.Dense(n_classes, dtype="float32", name="frame_logits")(x)
    return AttentionPooling(dtype="float32", name="logits")([attention, frame_logits])


def cosine(backbone: Backbone, n_classes: int, dropout: float, *, scale: float = 30.0) -> keras.KerasTensor:
    """Dropout and scaled cosines on the embedding: logits float32 [batch, n_classes], in +-scale."""
    x = layers.Dropout(dropout, name="dropout")(backbone.embedding)
    return CosineLogits(n_classes, scale, dtype="float32", name="logits")(x)


def prototypes(
    backbone: Backbone, n_classes: int, dropout: float, *, scale: float, distance: str, unknown: bool
) -> keras.KerasTensor:
    """Distances to a point for each class (prototype_head.py): logits float32 [batch, n_classes]."""
    x = layers.Dropout(dropout, name="dropout")(backbone.embedding)
    return PrototypeLogits(n_classes, distance, scale, unknown, dtype="float32", name="logits")(x)


HEADS: dict[str, Callable[..., keras.KerasTensor]] = {
    "linear": linear,
    "sed": sed,
    "cosine": cosine,
    "prototypes": prototypes,
}


def embedding(model: keras.Model) -> keras.KerasTensor:
    """The pooled vector of a network [batch, width]: its layer "embedding", with `sed` the mean of "frame_hidden"."""
    found = {layer.name: layer.output for layer in model.layers}
    if "embedding" in found:
        return found["embedding"]
    n_steps, width = found["frame_hidden"].shape[1:]
    x = layers.Reshape((n_steps, 1, width), name="frame_hidden_map")(found["frame_hidden"])
    return layers.GlobalAveragePooling2D(name="embedding")(x)


def logit_scale(model: keras.Model) -> float:
    """What the cosines or distances of a network were multiplied by; 1 for a head without them."""
    head = model.get_layer("logits")
    return head.scale if isinstance(head, CosineLogits | PrototypeLogits) else 1.0


@keras.saving.register_keras_serializable("birdnet_fs")
class AttentionPooling(layers.Layer):
    """Mean over time, for each class weighted by the softmax over time of its clamped attention.

    Inputs: attention and values, both [batch, n_steps, n_classes]. Output: [batch, n_classes].
    """

    def call(self, inputs: Any) -> Any:
        attention, values = inputs
        attention = ops.clip(attention, -ATTENTION_CLAMP, ATTENTION_CLAMP)
        # ops.softmax warns where there is only one step
        weights = ops.exp(attention - ops.max(attention, axis=1, keepdims=True))
        return ops.sum(weights * values, axis=1) / ops.sum(weights, axis=1)


@keras.saving.register_keras_serializable("birdnet_fs")
class CosineLogits(layers.Layer):
    """`scale` times the cosine between the input and each class' column of the kernel.

    Args:
        n_classes: Columns of the kernel [width, n_classes].
        scale: What the cosines are multiplied by, above 0.
        **settings: Those of every layer (name, dtype).

    Input: [batch, width]; a vector of zeros gives zeros. Output: [batch, n_classes], in +-scale.
    """

    def __init__(self, n_classes: int, scale: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.n_classes, self.scale = n_classes, scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(input_shape[-1], self.n_classes))

    def call(self, x: Any) -> Any:
        # squares of float16 overflow; under autocast the embedding may be float16
        x = ops.cast(x, self.compute_dtype)
        return self.scale * ops.matmul(_unit(x, -1), _unit(self.kernel, 0))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n_classes": self.n_classes, "scale": self.scale}


def _unit(x: Any, axis: int) -> Any:
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=axis, keepdims=True) + SMALLEST_SQUARE)
