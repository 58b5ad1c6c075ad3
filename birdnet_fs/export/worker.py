"""The exporting process: `python -m birdnet_fs.export.worker JOB.json` on Keras' TensorFlow backend.

The network is built from code and the run's weights in float32 (a mixed-precision graph needs operators outside the
TFLite builtins), the batch is fixed at 1 (recurrent networks convert only then), and anything outside the builtins
fails here instead of on the device. The front-end in front is made of convolutions and matrix products.

The job is JSON: {"run": folder, "frontend": settings, "input": "waveform" | "features", "outputs": [...],
"precisions": [...], "folder": where `<precision>.tflite` goes}.
"""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import schema
from birdnet_fs.export import flatbuffer, half

if TYPE_CHECKING:
    import keras

OUTPUTS = {"predictions": "logits", "embeddings": "embedding"}  # of an artefact, in its order: the layer each is of


def work(job: dict[str, Any]) -> None:
    """Write `<folder>/<precision>.tflite` for every precision of the job."""
    import keras

    from birdnet_fs.models import with_outputs
    from birdnet_fs.training.run_folder import load_run

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    folder, spec = Path(job["folder"]), schema.FrontEnd.from_dict(job["frontend"])
    network = with_outputs(load_run(job["run"]).build_model(), [OUTPUTS[name] for name in job["outputs"]])
    shape: tuple[int, ...]
    if job["input"] == "waveform":
        front = front_end(spec)
        given, answers = front.input, network(front.output)
        shape, name = (1, spec.n_samples), "waveform"
    else:
        front, given, answers = None, network.input, network.output
        shape, name = (1, *spec.shape, spec.n_channels), "features"
    answers = answers if len(job["outputs"]) > 1 else [answers]
    whole = keras.Model(given, dict(zip(job["outputs"], answers, strict=True)), name=f"{name}_to_answers")
    full = folder / "fp32.tflite"
    convert(whole, shape, name, full)
    flatbuffer.order_outputs(full, job["outputs"])
    if "fp16" in job["precisions"]:
        keep: frozenset[bytes] = frozenset()
        if front is not None:
            alone = folder / "front_end.tflite"
            convert(front, shape, name, alone)
            keep = half.constants(alone)
            alone.unlink()
            if lost := keep - half.constants(full):
                raise RuntimeError(f"{len(lost)} constants of the front-end changed when the network was added")
        half.store_in_half(full, folder / "fp16.tflite", keep=keep)
    if "fp32" not in job["precisions"]:
        full.unlink()


def front_end(spec: schema.FrontEnd) -> "keras.Model":
    """The front-end as a network: waveform [1, n_samples] -> features [1, n_frames, n_mels, n_channels]."""
    import keras

    from birdnet_fs.frontend.in_keras import FrontEndLayer

    waveform = keras.Input((spec.n_samples,), batch_size=1, name="waveform")
    features = FrontEndLayer(spec, transform="dft", name="front_end")(waveform)
    features = keras.layers.Reshape((*spec.shape, 1), name="channel_axis")(features)
    if spec.n_channels > 1:
        features = keras.layers.Concatenate(name="channel_copies")([features] * spec.n_channels)
    return keras.Model(waveform, features, name="front_end_model")


def convert(model: "keras.Model", shape: tuple[int, ...], name: str, path: Path) -> None:
    """Write a model as a float32 TFLite file of builtin operators with one input of a fixed shape."""
    import keras
    import tensorflow as tf

    from birdnet_fs.export.recurrent import hoisted

    hoisted(model).export(
        str(path),
        format="litert",
        input_signature=[keras.InputSpec(shape=shape, dtype="float32", name=name)],
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]},
        verbose=False,
    )


if __name__ == "__main__":
    work(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
