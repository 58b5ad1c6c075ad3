"""Head "sed" (sound event detection): attention over time, logits of every step beside those of the segment.

Source: Kong et al. 2020, "PANNs", https://arxiv.org/abs/1912.10211, `Cnn14_DecisionLevelAtt` in the authors' code
(https://github.com/qiuqiangkong/audioset_tagging_cnn, pytorch/models.py), after Kong et al. 2019,
https://arxiv.org/abs/1903.00765. As published: steps smoothed by the sum of maximum and mean over three of them,
dropout, a dense layer with ReLU as wide as the frames, dropout, and for each class a softmax over time of attention
clamped at +-10. (With the tanh that BirdCLEF networks use instead, no step can weigh more than 7.4 times another: a
call in one of 30 steps would keep a fifth of its logit.) A BatchNorm that the authors' code defines and never calls
is left out.

Different here: the published network sums attention times sigmoid and is trained on that sum. Here the logits of a
segment are the attention-weighted mean of the frames' logits, as in BirdCLEF networks. The logit of the published
sum has no gradient where the frames are certain and is no logit of a softmax; the mean is valid for both activations.
"""

from typing import Any

import keras
from keras import layers, ops

from birdnet_fs.models.blocks import Backbone

ATTENTION_CLAMP = 10.0  # PANNs


def sed_head(backbone: Backbone, n_classes: int, dropout: float) -> keras.KerasTensor:
    """Attention pooling over the frames of a backbone.

    The layer "frame_logits" holds the logits of every time step [batch, n_steps, n_classes], "frame_hidden" the
    features that they are computed from; the backbone's embedding is not used. With one or two steps the smoothing
    makes all steps equal, and attention has no effect.

    Args:
        backbone: Output of a family's `backbone`; only its frames are used.
        n_classes: Width of the logits, 1 or more.
        dropout: Dropout rate in front of both dense stages, in [0, 1).

    Returns:
        Logits float32 [batch, n_classes].
    """
    n_steps, width = backbone.frames.shape[1:]
    x = layers.Reshape((n_steps, 1, width), name="frame_map")(backbone.frames)
    maximum = layers.MaxPooling2D((3, 1), 1, padding="same", name="frame_max")(x)
    # the mean in PyTorch includes the zeros of the padding
    padded = layers.ZeroPadding2D(((1, 1), (0, 0)), name="frame_pad")(x)
    mean = layers.AveragePooling2D((3, 1), 1, name="frame_mean")(padded)
    x = layers.Add(name="frame_smooth")([maximum, mean])
    x = layers.Reshape((n_steps, width), name="frame_steps")(x)
    x = layers.Dropout(dropout, name="frame_dropout")(x)
    x = layers.Dense(width, activation="relu", name="frame_hidden")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    attention = layers.Dense(n_classes, dtype="float32", name="frame_attention")(x)
    frame_logits = layers.Dense(n_classes, dtype="float32", name="frame_logits")(x)
    return AttentionPooling(dtype="float32", name="logits")([attention, frame_logits])


@keras.saving.register_keras_serializable("birdnet_fs")
class AttentionPooling(layers.Layer):
    """Mean over time, weighted for each class by the softmax over time of its clamped attention."""

    def call(self, inputs: Any) -> Any:
        """Attention and values, both [batch, n_steps, n_classes] -> means [batch, n_classes]."""
        attention, values = inputs
        attention = ops.clip(attention, -ATTENTION_CLAMP, ATTENTION_CLAMP)
        # ops.softmax warns where there is only one step
        weights = ops.exp(attention - ops.max(attention, axis=1, keepdims=True))
        return ops.sum(weights * values, axis=1) / ops.sum(weights, axis=1)
