"""Engines of exported files: `X.tflite` or `X.onnx`, with the sidecar `X.json` that the exporter wrote beside it.

TFLite runs on `ai_edge_litert`, or on `tflite_runtime` where only that is installed (older devices); ONNX runs on
`onnxruntime`. Where the output of a file is probabilities, logits are computed from them.
"""

import importlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.class_names import check_class_names
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.inference.activations import ACTIVATIONS, to_logits
from birdnet_fs.inference.engine import Engine, NumpyFunction, network_features

INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # in order of preference
_SIDECAR: dict[str, type | tuple[type, ...]] = {
    "format": int,
    "sha256": str,
    "classes": list,
    "sample_rate_hz": int,
    "segment_s": (int, float),
    "input": str,
    "output": str,
    "activation": str,
    "frontend": dict,
}


class ExportedNetwork(NamedTuple):
    """A file that a runtime has opened.

    Attributes:
        input_shape: Shape of the input; -1 for a dimension of any size.
        output_shape: Shape of the output likewise.
        dtypes: Types of input and output.
        run: Input -> output.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtypes: tuple[str, str]
    run: NumpyFunction


def open_artifact(path: Path, threads: int) -> Engine:
    """Open an exported file.

    Args:
        path: `X.tflite` or `X.onnx`, with `X.json` beside it.
        threads: CPU threads of the runtime; 0 = the runtime decides.

    Returns:
        The engine.

    Raises:
        UserError: The sidecar is missing or does not describe the file, or the runtime is not installed or cannot load
            it.
    """
    sidecar = _read_sidecar(path)
    spec = schema.FrontEnd.from_artifact(sidecar["frontend"])
    if (spec.sample_rate_hz, spec.segment_s) != (sidecar["sample_rate_hz"], float(sidecar["segment_s"])):
        raise UserError(f"{path.with_suffix('.json')} gives two sample rates or segment lengths; export the run again.")
    identity = sha256(path)
    if identity != sidecar["sha256"].lower():
        raise UserError(f"{path} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    network = (_open_tflite if path.suffix.lower() == ".tflite" else _open_onnx)(path, threads)
    expected: tuple[int, ...] = (spec.n_samples,)
    mel_first = sidecar.get("axes") == "mel_first"
    if sidecar["input"] == "features":
        expected = (*(reversed(spec.shape) if mel_first else spec.shape), spec.n_channels)
    classes = tuple(sidecar["classes"])
    if network.input_shape[1:] != expected or network.output_shape[-1] != len(classes):
        raise UserError(
            f"{path} must take [n, {', '.join(map(str, expected))}] and give [n, {len(classes)}]; it takes "
            f"{list(network.input_shape)} and gives {list(network.output_shape)}; export the run again."
        )
    for dtype in network.dtypes:
        if dtype != "float32":
            raise UserError(f"{path} must take and give float32; it takes {dtype}; export it again.")
    fixed = network.input_shape[0]  # -1 for a batch of any size

    def run(waveforms: np.ndarray) -> np.ndarray:
        inputs = waveforms if sidecar["input"] == "waveform" else network_features(waveforms, spec)
        if mel_first:
            inputs = np.ascontiguousarray(inputs.swapaxes(1, 2))
        if fixed == -1:
            return network.run(inputs)
        short = -len(inputs) % fixed
        padded = np.concatenate([inputs, np.zeros((short, *inputs.shape[1:]), np.float32)])
        found = [network.run(padded[start : start + fixed]) for start in range(0, len(padded), fixed)]
        return np.concatenate(found)[: len(inputs)]

    def forward(waveforms: np.ndarray) -> np.ndarray:
        found = run(waveforms)
        return found if sidecar["output"] == "logits" else to_logits(found, sidecar["activation"]).astype(np.float32)

    # a softmax may be exported as log-odds, which a sigmoid turns into its probabilities
    one_label = sidecar["activation"] == "sigmoid" and bool(sidecar.get("one_label"))
    return Engine(classes, spec, sidecar["activation"], identity, forward, one_label=one_label)


def _open_tflite(path: Path, threads: int) -> ExportedNetwork:
    try:
        interpreter = _interpreter()(model_path=str(path), num_threads=threads or None)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} does not load in this TFLite runtime ({str(error).splitlines()[0]}).") from None
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(source["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    input_shape = (int(source.get("shape_signature", source["shape"])[0]), *map(int, source["shape"][1:]))
    dtypes = (np.dtype(source["dtype"]).name, np.dtype(result["dtype"]).name)
    return ExportedNetwork(input_shape, tuple(map(int, result["shape"])), dtypes, run)


def _open_onnx(path: Path, threads: int) -> ExportedNetwork:
    try:
        import onnxruntime
    except ImportError:
        raise UserError('A .onnx model needs onnxruntime; install it with `pip install "birdnet_fs[onnx]"`.') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, which have no common base
        raise UserError(f"{path} does not load in onnxruntime ({str(error).splitlines()[0]}).") from None
    source, result = session.get_inputs()[0], session.get_outputs()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run([result.name], {source.name: batch})[0]

    shapes = [tuple(n if isinstance(n, int) else -1 for n in tensor.shape) for tensor in (source, result)]
    dtypes = ["float32" if tensor.type == "tensor(float)" else tensor.type for tensor in (source, result)]
    return ExportedNetwork(shapes[0], shapes[1], (dtypes[0], dtypes[1]), run)


def _read_sidecar(model: Path) -> dict[str, Any]:
    path = model.with_suffix(".json")
    if not path.is_file():
        raise UserError(
            f"{model} needs its sidecar {path.name} in the same folder; copy it from where it was exported."
        )
    try:
        sidecar = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable JSON ({error}); copy it again.") from None
    for key, kind in _SIDECAR.items():
        value = sidecar.get(key) if isinstance(sidecar, dict) else None
        if not isinstance(value, kind):
            raise UserError(f"{path}: {key!r} is missing or of the wrong type; export the run again.")
    options = {"format": (1,), "input": ("waveform", "features"), "output": ("logits", "probabilities")}
    options["activation"] = ACTIVATIONS
    for key, known in options.items():
        if sidecar[key] not in known:
            raise UserError(f"{path}: {key!r} must be {' or '.join(map(str, known))}. Received: {sidecar[key]!r}")
    names = sidecar["classes"]
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise UserError(f"{path}: 'classes' must name one or more classes, each once.")
    check_class_names(names, str(path))
    return sidecar


def _interpreter() -> Any:
    for name in INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError('A .tflite model needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.')
