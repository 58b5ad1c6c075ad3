"""Exported files as engines: `X.tflite` or `X.onnx`, with the `X.json` that the exporter wrote beside it.

TFLite runs on `ai_edge_litert`, or on `tflite_runtime` where only that is installed (the older devices); ONNX on
`onnxruntime`. A file that answers probabilities is asked for the logits they come from.
"""

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.inference.activations import ACTIVATIONS, to_logits
from birdnet_fs.inference.engine import Engine, network_features

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
    """A file that a runtime has opened; dimensions of any size are -1."""

    reads: tuple[int, ...]
    gives: tuple[int, ...]
    dtypes: tuple[str, str]  # of input and output
    run: Callable[[np.ndarray], np.ndarray]


def open_artifact(path: Path, threads: int) -> Engine:
    """Open an exported file.

    Raises:
        UserError: Its sidecar is missing or does not describe it, or its runtime is missing or refuses it.
    """
    sidecar = _read_sidecar(path)
    spec = schema.FrontEnd.from_artifact(sidecar["frontend"])
    if (spec.sample_rate_hz, spec.segment_s) != (sidecar["sample_rate_hz"], float(sidecar["segment_s"])):
        raise UserError(f"{path.with_suffix('.json')} gives two sample rates or segment lengths; export the run again.")
    identity = sha256(path)
    if identity != sidecar["sha256"].lower():
        raise UserError(f"{path} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    network = (_open_tflite if path.suffix.lower() == ".tflite" else _open_onnx)(path, threads)
    wanted: tuple[int, ...] = (spec.n_samples,)
    mel_first = sidecar.get("axes") == "mel_first"
    if sidecar["input"] == "features":
        wanted = (*(reversed(spec.shape) if mel_first else spec.shape), spec.n_channels)
    classes = tuple(sidecar["classes"])
    if network.reads[1:] != wanted or network.gives[-1] != len(classes):
        raise UserError(
            f"{path} must take [n, {', '.join(map(str, wanted))}] and give [n, {len(classes)}]; it takes "
            f"{list(network.reads)} and gives {list(network.gives)}; export the run again."
        )
    for dtype in network.dtypes:
        if dtype != "float32":
            raise UserError(f"{path} must take and give float32; it takes {dtype}; export it again.")
    fixed = network.reads[0]  # -1 where the batch may be any

    def answer(waveforms: np.ndarray) -> np.ndarray:
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
        found = answer(waveforms)
        return found if sidecar["output"] == "logits" else to_logits(found, sidecar["activation"]).astype(np.float32)

    one_label = sidecar["activation"] == "sigmoid" and bool(sidecar.get("one_label"))  # a softmax, as log-odds
    return Engine(classes, spec, sidecar["activation"], identity, forward, one_label=one_label)


def _open_tflite(path: Path, threads: int) -> ExportedNetwork:
    try:
        interpreter = _interpreter()(model_path=str(path), num_threads=threads or None)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} does not load in this TFLite runtime ({str(error).splitlines()[0]}).") from None
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(given["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    reads = (int(given.get("shape_signature", given["shape"])[0]), *map(int, given["shape"][1:]))
    dtypes = (np.dtype(given["dtype"]).name, np.dtype(answer["dtype"]).name)
    return ExportedNetwork(reads, tuple(map(int, answer["shape"])), dtypes, run)


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
    except Exception as error:  # onnxruntime has a class of its own for each kind of refusal
        raise UserError(f"{path} does not load in onnxruntime ({str(error).splitlines()[0]}).") from None
    given, answer = session.get_inputs()[0], session.get_outputs()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run([answer.name], {given.name: batch})[0]

    reads, gives = (tuple(n if isinstance(n, int) else -1 for n in end.shape) for end in (given, answer))
    names = {"tensor(float)": "float32"}
    return ExportedNetwork(reads, gives, (names.get(given.type, given.type), names.get(answer.type, answer.type)), run)


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
    return sidecar


def _interpreter() -> Any:
    for name in INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError('A .tflite model needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.')
