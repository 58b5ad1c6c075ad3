"""Weights of a TFLite file in float16, on a file with one matrix product; whole networks: test_convert.py."""

from pathlib import Path

import numpy as np
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite

from birdnet_fs.export.tflite import edit
from birdnet_fs.export.tflite.float16 import store_as_float16

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
