"""Run in a process of its own with KERAS_BACKEND=tensorflow: `quantized_on_tensorflow.py FOLDER`.

Reads FOLDER/given.npz (cases of rounding, features and the weights of a quantized cnn/tiny by path); writes
FOLDER/tensorflow.npz (what the rounding and the network give here) and FOLDER/int8.tflite (the network, converted
without any calibration data) for test_quantized.py.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from birdnet_fs import models
from birdnet_fs.models.quantization.convert import quantize
from birdnet_fs.models.quantization.fake_quant import fake_quantize, fake_quantize_kernel


def main(folder: Path) -> None:
    given = np.load(folder / "given.npz")
    out = {}
    for name in (key for key in given if key.startswith("range/")):
        low, high = given[name]
        out[name] = fake_quantize(tf.constant(given["x"]), tf.constant(low), tf.constant(high)).numpy()
    for axis in (-1, None):
        out[f"kernel/{axis}"] = fake_quantize_kernel(tf.constant(given["kernel"]), axis=axis).numpy()
    features = given["features"]
    model = quantize(models.build("cnn/tiny", input_shape=features.shape[1:], n_classes=5))
    for variable in model.weights:
        if "seed_generator" not in variable.path:
            variable.assign(given[f"weights/{variable.path}"])
    out["logits"] = model(features).numpy()
    np.savez(folder / "tensorflow.npz", **out)
    model.export(
        str(folder / "int8.tflite"),
        format="litert",
        input_signature=[keras.InputSpec(shape=(1, *features.shape[1:]), dtype="float32", name="features")],
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        verbose=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
