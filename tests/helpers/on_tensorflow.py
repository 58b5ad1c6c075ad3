"""Front-ends on TensorFlow, for tests/frontend/test_in_tf.py: `on_tensorflow.py FOLDER` with KERAS_BACKEND=tensorflow.

Runs in a separate process. Reads FOLDER/waveforms.npz ({preset: [batch, n_samples]}) and FOLDER/torch.keras; writes
FOLDER/tensorflow.npz, FOLDER/tensorflow.keras and FOLDER/operators.json.
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from signals import SPECTRUM, TFLITE_PRESETS

from birdnet_fs.frontend import PRESETS, in_keras, in_tf


def tflite(spec, transform, waveform, path):
    """Features of `waveform` from a TFLite file of the front-end layer alone, and the file's operators."""
    from ai_edge_litert.interpreter import Interpreter

    inputs = keras.Input((spec.n_samples,), batch_size=1)
    model = keras.Model(inputs, in_keras.FrontEndLayer(spec, transform)(inputs))
    signature = [keras.InputSpec(shape=(1, spec.n_samples), dtype="float32")]
    model.export(str(path), format="litert", input_signature=signature, verbose=False)
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    operators = sorted({row["op_name"] for row in interpreter._get_ops_details()})
    rows = []
    for segment in waveform:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], segment[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.stack(rows), operators


def main(folder):
    waveforms = np.load(folder / "waveforms.npz")
    out, operators = {}, {}
    for name, spec in {**PRESETS, "spectrum": SPECTRUM}.items():
        x = waveforms[name]
        for transform in ("rfft", "dft", "rfft2d"):
            out[f"{name}/{transform}"] = in_keras.log_mel(x, spec, transform).numpy()
        out[f"{name}/in_tf"] = in_tf.log_mel(x, spec).numpy()
        other = np.concatenate([x[:1], x[1:] * 0.5 + 0.01])
        for key, call in (("rfft", in_keras.log_mel), ("in_tf", in_tf.log_mel)):
            out[f"{name}/{key}/neighbors"] = call(other, spec).numpy()[0]
    for name in TFLITE_PRESETS:
        for transform in ("dft", "rfft2d"):
            given = (PRESETS[name], transform, waveforms[name], folder / f"{name}_{transform}.tflite")
            out[f"{name}/tflite/{transform}"], operators[f"{name}/{transform}"] = tflite(*given)

    spec, x = PRESETS["fewshot"], waveforms["short_clips"]
    out["short_clips/in_tf"] = in_tf.log_mel(x, spec).numpy()
    out["short_clips/rfft"] = in_keras.log_mel(x, spec, "rfft").numpy()
    for transform in ("dft", "rfft2d"):
        out[f"short_clips/tflite/{transform}"], operators[f"short_clips/{transform}"] = tflite(
            spec, transform, x, folder / f"short_clips_{transform}.tflite"
        )

    spec = PRESETS["birdnet_3s_48k"]
    dataset = tf.data.Dataset.from_tensor_slices(waveforms[spec.preset]).batch(2)
    dataset = dataset.map(lambda x: in_tf.log_mel(x, spec))
    out["dataset"] = np.concatenate([batch.numpy() for batch in dataset])

    model = keras.models.load_model(folder / "torch.keras")
    out["from_torch"] = model.predict(waveforms[spec.preset], verbose=0)
    model.save(folder / "tensorflow.keras")

    image = waveforms["image"]
    for n_in, n_out in ((1200, 260), (261, 260), (100, 333)):
        x = tf.constant(image[None, :n_in, :, None])
        for method in ("lanczos5", "bilinear"):
            resized = tf.image.resize(x, (n_out, image.shape[1]), method=method, antialias=False)
            out[f"resize/{method}/{n_in}/{n_out}"] = resized[0, :, :, 0].numpy()
    np.savez(folder / "tensorflow.npz", **out)
    (folder / "operators.json").write_text(json.dumps(operators))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
