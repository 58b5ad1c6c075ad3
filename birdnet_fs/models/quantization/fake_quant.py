"""Fake quantization: float layers that round weights and activations to 8 bits, as an int8 runtime does.

Sources: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR, https://arxiv.org/abs/1712.05877 (fake quantization, ranges as moving averages); the rules of TFLite,
https://ai.google.dev/edge/litert/conversion/tensorflow/quantization/quantization_spec: activations asymmetric with one
scale, kernels of convolutions symmetric in -127..127 with a scale for each output channel. A dense kernel has one
scale, because the TFLite converter supports no others from fake quantization. The gradient is that of a
straight-through estimator: 1 inside the range, 0 where a value was clipped.

torch and TensorFlow give the same numbers; the TFLite converter reads the ranges from TensorFlow's operators.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

N_STEPS = 255  # between the lowest and the highest 8-bit value
HIGHEST = 127  # 8-bit value of a kernel; the lowest is -127
MOMENTUM = 0.95  # of the moving averages of ranges
# Lower bound of a channel's largest weight, relative to the largest weight of the layer: the unit of an int32 bias is
# proportional to the scale of its channel, and with a smaller scale the bias would overflow.
SMALLEST_CHANNEL = 1e-4
SMALLEST_RANGE = 1e-10  # a batch with a smaller range is ignored; a scale must have a reciprocal
FIXED, LEARN, MEASURE = "fixed", "learn", "measure"  # phases of a range


def fake_quantize(x: Any, low: Any, high: Any) -> Any:
    """Round a tensor to 256 values from `low` to `high`, one of which is 0.

    Args:
        x: float32 of any shape [...].
        low: Scalar, 0 or less.
        high: Scalar, 0 or more, above `low`.

    Returns:
        The nearest (q - zero) * scale with q in 0..255, scale = (high - low) / 255, zero = round(-low / scale).
    """
    if keras.backend.backend() == "torch":
        import torch

        return torch.fake_quantize_per_tensor_affine(x, *scale_and_zero(low, high), 0, N_STEPS)
    import tensorflow as tf

    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=8)


def scale_and_zero(low: Any, high: Any) -> tuple[Any, Any]:
    """Scale float32 and zero point int32 of a range, as torch tensors."""
    import torch

    scale = (high - low) / N_STEPS
    return scale, torch.floor(0.5 - low / scale).clamp(0, N_STEPS).to(torch.int32)


def fake_quantize_kernel(kernel: Any, *, axis: int | None) -> Any:
    """Round a kernel to 255 values around 0; the largest absolute weight becomes +-127.

    Args:
        kernel: float32 of any shape [...].
        axis: Axis of the output channels, each with a scale of its own (on TensorFlow the last axis); None for one
            scale.

    Returns:
        float32, of the shape of `kernel`.
    """
    others = None if axis is None else [i for i in range(len(kernel.shape)) if i != axis % len(kernel.shape)]
    largest = ops.max(ops.abs(ops.stop_gradient(kernel)), axis=others)
    smallest = keras.config.epsilon() if axis is None else ops.max(largest) * SMALLEST_CHANNEL + keras.config.epsilon()
    largest = ops.maximum(largest, smallest)
    if keras.backend.backend() == "torch":
        import torch

        scale, zero = largest / HIGHEST, torch.zeros_like(largest, dtype=torch.int32)
        if axis is None:
            return torch.fake_quantize_per_tensor_affine(kernel, scale, zero, -HIGHEST, HIGHEST)
        return torch.fake_quantize_per_channel_affine(kernel, scale, zero, axis % kernel.ndim, -HIGHEST, HIGHEST)
    import tensorflow as tf

    several = axis is not None
    quantize: Callable[..., Any] = (
        tf.quantization.fake_quant_with_min_max_vars_per_channel
        if several
        else tf.quantization.fake_quant_with_min_max_vars
    )
    return quantize(kernel, -largest, largest, num_bits=8, narrow_range=True)


def _extremes(x: Any) -> tuple[Any, Any]:
    """(minimum or 0, maximum or 0)."""
    if keras.backend.backend() == "torch":  # keras.ops.min and max are 30 times slower on permuted axes
        return x.amin().clamp(max=0.0), x.amax().clamp(min=0.0)
    return ops.minimum(ops.min(x), 0.0), ops.maximum(ops.max(x), 0.0)


@keras.saving.register_keras_serializable("birdnet_fs")
class FakeQuantize(layers.Layer):
    """Round activations to 8 bits in a range that is learned from the data or fixed.

    Args:
        bounds: Fixed range (low, high) of an operator such as sigmoid. Default: None, a learned range.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).

    Attributes:
        phase: FIXED: the range does not change. LEARN: in training it follows the minimum and maximum of every batch.
            MEASURE: it is computed anew as their mean, and values pass without rounding.
        n_seen: Number of batches that the range comes from; the mean of the first becomes a moving average.

    Weights, not trained by gradients: `low` and `high`, scalars. A batch of zeros does not change them.
    """

    def __init__(self, bounds: tuple[float, float] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self.bounds = bounds if bounds is None else (float(bounds[0]), float(bounds[1]))
        self._phase, self.n_seen = FIXED, 0

    def build(self, input_shape: tuple[Any, ...]) -> None:
        """Create the range, 0 to 1."""
        if self.bounds is None:
            self.low = self.add_weight(name="low", shape=(), initializer="zeros", trainable=False)
            self.high = self.add_weight(name="high", shape=(), initializer="ones", trainable=False)

    @property
    def phase(self) -> str:
        """FIXED, LEARN or MEASURE."""
        return self._phase

    @phase.setter
    def phase(self, phase: str) -> None:
        if phase == MEASURE:
            self.n_seen = 0
        self._phase = phase

    def range(self) -> tuple[Any, Any]:
        """(low, high), scalar tensors."""
        low, high = self.bounds or (self.low.value, self.high.value)
        return ops.convert_to_tensor(low, "float32"), ops.convert_to_tensor(high, "float32")

    def call(self, x: Any, training: bool = False) -> Any:
        """Any shape [...] -> the same."""
        if self._phase == MEASURE or (self._phase == LEARN and training):
            self.update(x)
        return x if self._phase == MEASURE else fake_quantize(x, *self.range())

    def update(self, x: Any) -> None:
        """Update the range with that of a batch: the mean over the first batches, then a moving average."""
        if self.bounds is not None:
            return
        self.n_seen += 1
        rate = max(1 / self.n_seen, 1 - MOMENTUM)
        low, high = _extremes(ops.stop_gradient(x))
        some = ops.cast(high - low > SMALLEST_RANGE, "float32") * rate
        for variable, seen in ((self.low, low), (self.high, high)):
            now = variable.value
            variable.assign((1 - some) * now + some * seen)

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return {**super().get_config(), "bounds": self.bounds}


@keras.saving.register_keras_serializable("birdnet_fs")
class RoundedToGrid(layers.Layer):
    """Round to the range of another layer, after operators whose output has the scale of their input.

    It has no `get_config`, so that 8-bit networks cannot be saved as `.keras` files; a run folder builds them anew.

    Args:
        grid: The layer with the range.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).
    """

    def __init__(self, grid: FakeQuantize, **settings: Any) -> None:
        super().__init__(**settings)
        self.grid = lambda: grid  # a function, so that Keras does not track the weights of `grid` twice

    def call(self, x: Any) -> Any:
        """Any shape [...] -> the same."""
        grid = self.grid()
        return x if grid.phase == MEASURE else fake_quantize(x, *grid.range())

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """The shape of the input."""
        return input_shape


@keras.saving.register_keras_serializable("birdnet_fs")
class QuantizedConv2D(layers.Conv2D):
    """A convolution whose kernel is rounded to 8 bits, with a scale for each output channel."""

    def call(self, inputs: Any) -> Any:
        """[batch, height, width, n_in] -> [batch, height, width, n_out]."""
        y = ops.conv(
            inputs,
            fake_quantize_kernel(ops.convert_to_tensor(self.kernel), axis=-1),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return y + ops.convert_to_tensor(self.bias)


@keras.saving.register_keras_serializable("birdnet_fs")
class QuantizedDepthwiseConv2D(layers.DepthwiseConv2D):
    """A depthwise convolution whose kernel is rounded to 8 bits, with a scale for each channel."""

    def call(self, inputs: Any) -> Any:
        """[batch, height, width, n_in] -> [batch, height, width, n_in * multiplier]."""
        kernel = ops.convert_to_tensor(self.kernel)  # [height, width, channels, multiplier]
        flat = ops.reshape(kernel, (*kernel.shape[:2], kernel.shape[2] * kernel.shape[3]))
        y = ops.depthwise_conv(
            inputs,
            ops.reshape(fake_quantize_kernel(flat, axis=-1), kernel.shape),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return y + ops.convert_to_tensor(self.bias)


@keras.saving.register_keras_serializable("birdnet_fs")
class QuantizedDense(layers.Dense):
    """A dense layer whose kernel is rounded to 8 bits with one scale."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """[batch, n_in] -> [batch, n_out]."""
        kernel = fake_quantize_kernel(ops.convert_to_tensor(self.kernel), axis=None)
        return ops.matmul(inputs, kernel) + ops.convert_to_tensor(self.bias)
