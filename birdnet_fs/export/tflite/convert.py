"""Write TFLite files: `python -m birdnet_fs.export.tflite.convert JOB.json` on Keras' TensorFlow backend.

The network is built from code and the run's weights in float32 (a mixed-precision graph needs operators outside the
TFLite builtins) and converted separately, once for each precision. The front-end, whose FFT is the builtin RFFT2D or
made of matrix products, is converted in float32 and joined in front of the network, so that no precision rounds a
spectrogram; the model that turns logits into probabilities or log-odds is joined behind it in the same way
(wrappers.py). A file with an operator outside the builtins, or with a convolution that a runtime is known to compute
wrongly, is rejected.

The job is JSON: {"run": folder, "frontend": settings, "input": "waveform" | "features", "axes": "time_first" |
"mel_first" (of features), "fft": "builtin" | "matrix" (of waveforms), "precisions": [...], "batch": 1 | null,
"output_kind": "logits" | "log_odds" | "probabilities", "outputs": ["predictions", ...], "calibration": `.npy` float32
[n, n_frames, n_mels] of real features (for int8), "maps": {"slope": [...], "offset": [...]} of calibrated predictions
(or left out), "folder": output folder of `<precision>.tflite`}. For a precision
that cannot be written, the reason is written to `<precision>.error.txt` as one sentence; the others are written.
"""

import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import schema
from birdnet_fs.encoders.tflite_graph import SIGNATURE
from birdnet_fs.export.spec import OUTPUTS, PRECISIONS
from birdnet_fs.export.tflite import edit as flatbuffer
from birdnet_fs.export.tflite import int8, weights, wrappers

if TYPE_CHECKING:
    import keras

    from birdnet_fs.runs.run import Run


class CannotConvert(Exception):
    """A file cannot be written; the message is one sentence that names an alternative."""


def run_job(job: Mapping[str, Any]) -> None:
    """Write `<precision>.tflite`, or `<precision>.error.txt`, for every precision of the job (see the module)."""
    import keras

    from birdnet_fs.export.tflite.recurrent import has_loops
    from birdnet_fs.models import with_outputs
    from birdnet_fs.runs.run import load_run

    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    run, folder = load_run(job["run"]), Path(job["folder"])
    spec = schema.FrontEnd.from_artifact(job["frontend"])
    with_layers = with_outputs(run.build_model(), [OUTPUTS[name] for name in job["outputs"]])
    outputs = with_layers.output if len(job["outputs"]) > 1 else [with_layers.output]
    network = keras.Model(with_layers.input, dict(zip(job["outputs"], outputs, strict=True)), name="network")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:  # removed with the folder when this process is killed
        parts = Path(scratch)
        front, behind = parts / "front_end.tflite", parts / "behind.tflite"
        if job["input"] == "waveform":
            convert_model(wrappers.front_end_model(spec, job["fft"]), (job["batch"], spec.n_samples), "waveform", front)
        elif job.get("axes") == "mel_first":
            shape = (spec.shape[1], spec.shape[0], spec.n_channels)
            convert_model(wrappers.transpose_features(shape), (job["batch"], *shape), "features", front)
        tail = wrappers.output_model(job["output_kind"], run.activation, len(run.classes), job.get("maps"))
        if tail is not None:
            convert_model(tail, (job["batch"], len(run.classes)), "logits", behind)
        saved = _save(network, (job["batch"], *spec.shape, spec.n_channels), "features", parts / "saved")

        def write(precision: str, alone: Path) -> None:
            if has_loops(network):
                _check_loops(precision, job["batch"], run.experiment.model.name)
            _write(precision, saved, alone, job, run)
            flatbuffer.order_outputs(alone, job["outputs"])
            if front.exists():
                flatbuffer.join_models(front, alone, alone)
            if behind.exists():
                flatbuffer.join_models(alone, behind, alone)

        write_precisions(job["precisions"], parts, folder, write)


def write_precisions(precisions: Sequence[str], parts: Path, folder: Path, write: Callable[[str, Path], None]) -> None:
    """Write `<precision>.tflite`, or the reason in `<precision>.error.txt`, for every precision.

    Args:
        precisions: The precisions; they are written from the most to the least exact.
        parts: Folder that `write` uses.
        folder: Folder of the results.
        write: Writes the file of a precision to a path; it raises CannotConvert where it cannot.
    """
    for precision in sorted(precisions, key=PRECISIONS.index):
        alone, reason = parts / f"{precision}.tflite", folder / f"{precision}.error.txt"
        reason.write_text(f"The conversion process ended unexpectedly while it wrote {precision}.\n", encoding="utf-8")
        try:
            write(precision, alone)
            check_operators(alone)
        except CannotConvert as error:
            reason.write_text(f"{error}\n", encoding="utf-8")
        else:
            (folder / alone.name).write_bytes(alone.read_bytes())
            reason.unlink()


def _write(precision: str, saved: Path, path: Path, job: Mapping[str, Any], run: "Run") -> None:
    """Convert the network, without front-end and output model, in one precision."""
    name, trained_for_it = run.experiment.model.name, run.experiment.model.quantized
    if trained_for_it and precision != "int8":
        raise CannotConvert(f"The network was trained for 8 bits (model.quantized): write int8, not {precision}.")
    full = path.with_name("full.tflite")  # shared by fp32 and fp16
    if precision == "dynamic":
        _convert(saved, path, name, int8.dynamic_range_settings())
    elif precision == "int8":
        calibrated = None if trained_for_it else Path(job["calibration"])
        _convert(saved, path, name, int8.full_integer_settings(calibrated, run.frontend.n_channels))
    elif not full.exists():
        _convert(saved, full, name)
    if precision == "fp32":
        shutil.copy(full, path)
    elif precision == "fp16":
        weights.store_as_float16(full, path)


def _check_loops(precision: str, batch: int | None, name: str) -> None:
    if batch is None:
        raise CannotConvert(f"The recurrent network {name} can only be written for one segment per call.")
    if precision == "int8":  # the converter crashes when it calibrates the body of a loop
        raise CannotConvert(f"The recurrent network {name} cannot be written in int8: use dynamic or fp16.")


def convert_model(model: "keras.Model", shape: tuple[int | None, ...], name: str, path: Path) -> None:
    """Write a model as a float32 TFLite file of builtin operators.

    Args:
        model: A Functional model with one input.
        shape: Shape of the input with the batch first: 1, or None for any number.
        name: Name of the input.
        path: The file to write.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _convert(_save(model, shape, name, Path(scratch) / "saved"), path, model.name)


def check_operators(path: Path) -> None:
    """Reject a file that would fail on one of the runtimes, or give wrong results there without an error.

    Args:
        path: A TFLite file.

    Raises:
        CannotConvert: The file holds operators outside the builtins, or a convolution that tflite-runtime computes
            wrongly.
    """
    if foreign := flatbuffer.foreign_operators(path):
        raise CannotConvert(f"The network needs operators outside the TFLite builtins: {', '.join(foreign)}.")
    if wrong := flatbuffer.wrong_on_tflite_runtime(path):
        raise CannotConvert(f"tflite-runtime would compute it wrongly: {wrong[0]} ({len(wrong)} convolutions).")


def _save(model: "keras.Model", shape: tuple[int | None, ...], name: str, folder: Path) -> Path:
    """Write the model as a SavedModel with one signature, the input of the converter.

    The weights are constants of its graph: variables would be saved and restored by functions of their own, which takes
    three times as long as the conversion.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from birdnet_fs.export.tflite.recurrent import with_hoisted_inputs
    from birdnet_fs.export.tflite.same_padding import with_explicit_padding

    portable = with_explicit_padding(with_hoisted_inputs(model))
    signature = [tf.TensorSpec(shape, tf.float32, name=name)]
    traced = tf.function(functools.partial(portable, training=False), input_signature=signature)
    function = traced.get_concrete_function()
    constant = convert_variables_to_constants_v2(function, lower_control_flow=False)

    @tf.function(input_signature=signature)
    def serve(x: Any) -> Any:
        return tf.nest.pack_sequence_as(function.structured_outputs, tf.nest.flatten(constant(x)))

    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(tf.Module(), str(folder), signatures={SIGNATURE: serve}, options=options)
    return folder


def _convert(saved: Path, path: Path, name: str, settings: Mapping[str, Any] | None = None) -> None:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    for key, value in (settings or {}).items():
        setattr(converter, key, value)
    try:
        path.write_bytes(converter.convert())
    except (RuntimeError, ValueError) as error:  # the converter's own error is a RuntimeError
        raise CannotConvert(
            f"{name} cannot be written with TFLite's builtin operators alone: {_short(error)}"
        ) from error


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


if __name__ == "__main__":
    run_job(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
