"""Weights of a TFLite file in 16 and 8 bits, on files of one or two operators; whole networks: test_convert.py."""

from pathlib import Path

import numpy as np
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite

from birdnet_fs.export.tflite import edit
from birdnet_fs.export.tflite.weights import store_as_float16, store_as_int8

WEIGHTS = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)  # 512 numbers
BIAS = np.random.default_rng(1).normal(size=8).astype(np.float32)


@pytest.fixture(scope="module")
def product(tmp_path_factory) -> Path:
    need("tensorflow")
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, 64), tf.float32)])
    def function(x):
        return tf.matmul(x, tf.constant(WEIGHTS)) + tf.constant(BIAS)

    path = tmp_path_factory.mktemp("float16") / "product.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    path.write_bytes(converter.convert())
    return path


def test_large_weights_are_rounded_and_small_constants_are_not(product: Path, tmp_path: Path) -> None:
    assert store_as_float16(product, tmp_path / "half.tflite") == 1
    types = edit.count_types(tmp_path / "half.tflite")
    assert types["FLOAT16"] == 1 and "FLOAT16" not in edit.count_types(product)
    assert edit.operators(tmp_path / "half.tflite")[0] == "DEQUANTIZE"
    x = np.random.default_rng(2).normal(size=(5, 64)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (found,) = run_tflite(tmp_path / "half.tflite", tmp_path / "x.npy", tmp_path / "o.npz")
    wanted = x.astype(np.float64) @ WEIGHTS.astype(np.float16).astype(np.float64) + BIAS
    assert np.abs(found - wanted).max() <= tolerances.BACKENDS * np.abs(wanted).max()
    assert (tmp_path / "half.tflite").stat().st_size < product.stat().st_size - WEIGHTS.nbytes // 4


@pytest.fixture(scope="module")
def convolutions(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A convolution and a depthwise one, whose channels differ in size by up to a thousand, and their kernels."""
    need("tensorflow")
    import tensorflow as tf

    random, sizes = np.random.default_rng(3), np.logspace(-2, 1, 24)
    kernels = {
        "CONV_2D": random.normal(size=(3, 3, 4, 24)) * sizes,
        "DEPTHWISE_CONV_2D": random.normal(size=(5, 5, 24)),
    }
    kernels["DEPTHWISE_CONV_2D"] = (kernels["DEPTHWISE_CONV_2D"] / sizes)[..., None]
    kernels["CONV_2D"][..., 7] = 0  # a channel of no use
    kernels = {name: value.astype(np.float32) for name, value in kernels.items()}

    @tf.function(input_signature=[tf.TensorSpec((1, 12, 12, 4), tf.float32)])
    def function(x):
        y = tf.nn.relu(tf.nn.conv2d(x, tf.constant(kernels["CONV_2D"]), 1, "VALID"))
        return tf.nn.depthwise_conv2d(y, tf.constant(kernels["DEPTHWISE_CONV_2D"]), (1, 1, 1, 1), "VALID")

    path = tmp_path_factory.mktemp("int8") / "convolutions.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], function)
    path.write_bytes(converter.convert())
    return path, kernels


def in_8_bits(kernel: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """A kernel in 255 steps of equal size for each channel, as float64."""
    steps = np.abs(kernel.astype(np.float64)).max(axis=axes, keepdims=True) / 127
    steps[steps == 0] = 1
    return np.round(kernel / steps) * steps


def test_each_channel_of_a_convolution_is_rounded_to_steps_of_its_own(convolutions, tmp_path: Path) -> None:
    import tensorflow as tf

    source, kernels = convolutions
    assert store_as_int8(source, tmp_path / "eight.tflite") == 2
    assert edit.count_types(tmp_path / "eight.tflite")["INT8"] == 2
    assert edit.operators(tmp_path / "eight.tflite").count("DEQUANTIZE") == 2
    x = np.random.default_rng(2).normal(size=(5, 12, 12, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    (found,) = run_tflite(tmp_path / "eight.tflite", tmp_path / "x.npy", tmp_path / "o.npz")
    rounded = {"CONV_2D": in_8_bits(kernels["CONV_2D"], (0, 1, 2))}
    rounded["DEPTHWISE_CONV_2D"] = in_8_bits(kernels["DEPTHWISE_CONV_2D"], (0, 1))
    y = tf.nn.relu(tf.nn.conv2d(x.astype(np.float64), rounded["CONV_2D"], 1, "VALID"))
    wanted = tf.nn.depthwise_conv2d(y, rounded["DEPTHWISE_CONV_2D"], (1, 1, 1, 1), "VALID").numpy()
    size = np.abs(wanted).max(axis=(0, 1, 2))
    assert (np.delete(size, 7) > 1).all() and size[7] == 0
    assert (np.abs(found - wanted).max(axis=(0, 1, 2)) <= tolerances.BACKENDS * size).all()


def test_a_matrix_that_no_layer_multiplies_by_is_not_rounded_to_8_bits(product: Path, tmp_path: Path) -> None:
    """A table of another operator, such as the window of a spectrogram, stays float32."""
    from birdnet_fs.encoders.tflite_graph import read_model, write_model

    model = read_model(product)
    (operator,) = model.subgraphs[0].operators
    operator.inputs = [operator.inputs[1], operator.inputs[0], -1]  # the constant is no longer the second input
    write_model(model, tmp_path / "turned.tflite")
    assert store_as_int8(tmp_path / "turned.tflite", tmp_path / "eight.tflite") == 0
    assert store_as_int8(product, tmp_path / "eight.tflite") == 1
