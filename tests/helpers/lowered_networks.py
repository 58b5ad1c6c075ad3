"""Networks with many kinds of layers, whose lowered version is compared with plain Keras."""

import keras
import numpy as np
import torch
from keras import layers

from birdnet_fs import models
from birdnet_fs.models.blocks import LayerScale


@keras.saving.register_keras_serializable("tests")
class Twice(layers.Layer):
    """A layer without a lowering rule, with a training flag."""

    def call(self, x, training=False):
        return x * (2.0 if training else 3.0)


def every_layer(dtype: str = "float32") -> keras.Model:
    """A network with every layer that has a rule, in the settings that differ: padding, stride, axis, bias."""

    def named(kind, name, *args, **settings):
        return kind(*args, dtype=dtype, name=name, **settings)

    inputs = keras.Input((17, 14, 3), name="features", dtype=dtype)
    x = named(layers.Rescaling, "rescaling", 0.5, offset=0.1)(inputs)
    x = named(layers.ZeroPadding2D, "zeros", ((1, 0), (2, 1)))(x)
    x = named(layers.Conv2D, "conv_same_s2", 8, 3, strides=2, padding="same")(x)
    x = named(layers.BatchNormalization, "bn", momentum=0.7)(x)
    x = named(layers.Activation, "silu", "silu")(x)
    skip = x
    x = named(layers.DepthwiseConv2D, "depthwise", 3, padding="same", depth_multiplier=2)(x)
    x = named(layers.BatchNormalization, "bn_bare", scale=False, center=False)(x)
    x = named(layers.ReLU, "relu")(x)
    x = named(layers.Conv2D, "grouped", 8, (1, 3), padding="same", groups=4, use_bias=False, activation="gelu")(x)
    gate = named(layers.GlobalAveragePooling2D, "squeeze", keepdims=True)(x)
    gate = named(layers.Conv2D, "gate", 8, 1, activation="sigmoid")(gate)
    x = named(layers.Multiply, "excite")([x, gate])
    x = named(layers.Dropout, "no_depth", 0.0, noise_shape=(None, 1, 1, 1))(x)
    x = named(layers.Add, "add")([x, skip])
    x = named(layers.SpatialDropout2D, "no_maps", 0.0)(x)
    x = named(layers.Conv2D, "dilated", 6, 3, padding="same", dilation_rate=2)(x)
    x = named(layers.BatchNormalization, "bn_band", axis=2)(x)
    x = named(layers.ReLU, "relu6", max_value=6)(x)
    x = named(layers.MaxPooling2D, "max_same", 2, strides=1, padding="same")(x)
    x = named(layers.AveragePooling2D, "avg_same", 3, strides=2, padding="same")(x)
    x = named(layers.MaxPooling2D, "max_valid", 2, strides=1)(x)
    x = named(layers.Permute, "swap", (2, 1, 3))(x)
    mean = named(layers.AveragePooling2D, "mean", (x.shape[1], 1))(x)
    x = named(layers.Concatenate, "cat")([x, named(layers.Subtract, "less")([x, mean])])
    x = named(layers.LayerNormalization, "ln")(x)
    x = named(layers.Dense, "dense4d", 5, activation="tanh")(x)
    top = named(layers.GlobalMaxPooling2D, "gmax")(x)
    x = named(layers.Reshape, "rows", (x.shape[1] * x.shape[2], -1))(x)
    x = named(layers.Flatten, "flat")(x)
    x = named(layers.Dropout, "no_dropout", 0.0)(x)
    x = named(layers.Concatenate, "join")([x, top])
    x = named(layers.Dense, "hidden", 6, use_bias=False)(x)
    x = named(layers.BatchNormalization, "bn_flat")(x)
    x = named(layers.Activation, "softmax", "softmax")(x)
    return keras.Model(inputs, named(layers.Dense, "logits", 4)(x))


def rows(dtype: str = "float32") -> keras.Model:
    """A network with every layer that has a rule for rows [batch, n, width], and attention over them."""

    def named(kind, name, *args, **settings):
        return kind(*args, dtype=dtype, name=name, **settings)

    inputs = keras.Input((11, 6), name="features", dtype=dtype)
    x = named(layers.ZeroPadding1D, "zeros", (1, 2))(inputs)
    x = named(layers.Conv1D, "conv_same_s2", 8, 4, strides=2, padding="same", activation="hard_sigmoid")(x)
    x = named(layers.BatchNormalization, "bn_rows", momentum=0.7)(x)
    x = named(layers.SpatialDropout1D, "no_maps", 0.0)(x)
    x = named(layers.LSTM, "lstm", 7, return_sequences=True)(x)
    x = named(layers.GaussianNoise, "no_noise", 0.0)(x)
    x = named(layers.GRU, "gru", 5, return_sequences=True)(x)
    both = named(layers.LSTM, "lstm2", 3, return_sequences=True, use_bias=False)
    x = named(layers.Bidirectional, "both", both)(x)
    x = named(layers.Cropping1D, "less", (0, 1))(x)
    scaled = named(LayerScale, "scale", 0.7)(named(layers.LayerNormalization, "ln", epsilon=1e-5)(x))
    attended = named(layers.MultiHeadAttention, "self", 2, 4)(scaled, scaled)
    x = named(layers.Add, "past")([x, attended])
    x = named(layers.Activation, "relu", "relu")(x)
    shorter = named(layers.AveragePooling1D, "mean2", 2)(named(layers.MaxPooling1D, "max2", 2, strides=1)(x))
    cross = named(layers.MultiHeadAttention, "cross", 2, 3, value_dim=5, output_shape=7, use_bias=False)
    x = named(layers.Concatenate, "cat")([x, cross(x, shorter, key=shorter * 0.5)])
    x = named(layers.EinsumDense, "einsum", "abc,cd->abd", (6, 6), bias_axes="d", activation="silu")(x)
    x = named(layers.LayerNormalization, "ln_both", axis=(1, 2))(x)
    low = named(layers.Minimum, "low")([x, scaled])
    x = named(layers.Average, "mean3")([x, low, named(layers.Maximum, "high")([x, scaled])])
    x = named(layers.UnitNormalization, "unit")(x) + x[:, :1]
    pooled = [
        named(layers.GRU, "last_gru", 4, use_bias=False)(x),
        named(layers.Bidirectional, "last_both", named(layers.GRU, "gru2", 3))(x),
        named(layers.GlobalAveragePooling1D, "average")(x),
        named(layers.GlobalMaxPooling1D, "max")(named(layers.Softmax, "softmax", axis=1)(x)),
        keras.ops.mean(x, axis=1),
        named(layers.Flatten, "map")(
            named(layers.Cropping2D, "inner", ((1, 1), (0, 2)))(named(layers.Reshape, "as_map", (-1, 3, 2))(x))
        ),
    ]
    return keras.Model(inputs, named(layers.Dense, "logits", 4)(named(layers.Concatenate, "join")(pooled)))


def shaken(model: keras.Model) -> keras.Model:
    """Every variable moved off its initial value, so that a swapped or forgotten one shows; then moving statistics
    that fit the batch, without which an untrained deep network answers in millions and rounding decides."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        noise = generator.normal(0, 0.2, weight.shape)
        weight.assign(np.asarray(weight) * (1 + noise) + noise * (len(weight.shape) == 1 or "bias" in weight.path))
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        model(batch(model, dtype=getattr(torch, model.inputs[0].dtype)), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.moving_variance.assign(norm.moving_variance * 1.1 + 0.01)
    return model


def family_model(name: str) -> keras.Model:
    # dropout draws from another generator than Keras', so the comparison needs none
    model = models.build(name, input_shape=(36, 33, 1), n_classes=3, dropout=0.0)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.rate = 0.0
    return model


NO_GRADIENT = ("conv_same_s2/bias", "depthwise/bias", "self/key/bias")


MODELS = {
    "every_layer": every_layer,
    "rows": rows,
    "cnn/tiny": lambda: family_model("cnn/tiny"),
    "cnn/small": lambda: family_model("cnn/small"),
    "efficientnet_v2/b0": lambda: family_model("efficientnet_v2/b0"),
}


def batch(model: keras.Model, n: int = 4, dtype: torch.dtype = torch.float32, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((n, *model.input_shape[1:]), generator=generator, dtype=torch.float64).to(dtype)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference over the largest value of b."""
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))
