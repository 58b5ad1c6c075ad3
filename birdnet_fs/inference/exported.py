"""Engines of exported files: `X.tflite` or `X.onnx`, with the sidecar `X.json` that the exporter wrote beside it.

TFLite runs on `ai_edge_litert`, or on `tflite_runtime` where only that is installed (older devices); ONNX runs on
`onnxruntime`. Where the output of a file is probabilities, logits are computed from them.
"""

import importlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.activations import to_logits
from birdnet_fs.inference.engine import Engine, NumpyFunction, network_features
from birdnet_fs.inference.sidecar import read_sidecar

INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # in order of preference
MAX_BYTES = 2_000_000_000  # of a file: the formats themselves have 2 GiB
MAX_TENSOR = 2**28  # numbers of one tensor of a network, 1 GB
ROUNDING = 0.02  # of a probability outside of 0..1, as an int8 network may give


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
    sidecar = read_sidecar(path)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{escaped(path)} must have {MAX_BYTES:,} bytes or fewer; export the run again.")
    identity = sha256(path)
    if identity != sidecar.sha256:
        raise UserError(f"{escaped(path)} is not the file its sidecar describes (SHA-256 differs); copy both again.")
    network = (_open_tflite if path.suffix.lower() == ".tflite" else _open_onnx)(path, threads)
    expected, n_classes, spec = sidecar.input_shape, len(sidecar.classes), sidecar.frontend
    fixed = network.input_shape[0] if network.input_shape else 0  # -1 for a batch of any size
    fits = network.input_shape[1:] == expected and network.output_shape[-1:] == (n_classes,)
    if not fits or fixed == 0 or fixed > MAX_TENSOR // math.prod(expected):
        raise UserError(
            f"{escaped(path)} must take [n, {', '.join(map(str, expected))}] and give [n, {n_classes}]; it takes "
            f"{list(network.input_shape)} and gives {list(network.output_shape)}; export the run again."
        )
    for dtype in network.dtypes:
        if dtype != "float32":
            raise UserError(f"{escaped(path)} must take and give float32; it takes {dtype}; export it again.")

    def answer(inputs: np.ndarray) -> np.ndarray:
        try:
            found = np.asarray(network.run(inputs))
        except Exception as error:  # each runtime raises classes of its own
            raise UserError(f"{escaped(path)} cannot be run ({_first_line(error)}); export the run again.") from None
        if found.shape != (len(inputs), n_classes):
            raise UserError(
                f"{escaped(path)} must give [{len(inputs)}, {n_classes}] for {len(inputs)} segments; it gave "
                f"{list(found.shape)}; export the run again."
            )
        return found

    def run(waveforms: np.ndarray) -> np.ndarray:
        inputs = waveforms if sidecar.input == "waveform" else network_features(waveforms, spec)
        if sidecar.mel_first:
            inputs = np.ascontiguousarray(inputs.swapaxes(1, 2))
        if fixed == -1:
            return answer(inputs)
        short = -len(inputs) % fixed
        padded = np.concatenate([inputs, np.zeros((short, *inputs.shape[1:]), np.float32)])
        found = [answer(padded[start : start + fixed]) for start in range(0, len(padded), fixed)]
        return np.concatenate(found)[: len(inputs)]

    def forward(waveforms: np.ndarray) -> np.ndarray:
        found = run(waveforms)
        if sidecar.output == "logits":
            return found
        if found.min(initial=0) < -ROUNDING or found.max(initial=0) > 1 + ROUNDING:
            raise UserError(
                f"{escaped(path)} must give probabilities in 0..1, as its sidecar says; it gave {found.min():g} to "
                f"{found.max():g}; export the run again."
            )
        return to_logits(found, sidecar.activation).astype(np.float32)

    return Engine(sidecar.classes, spec, sidecar.activation, identity, forward, one_label=sidecar.one_label)


def _first_line(error: Exception) -> str:
    return escaped((str(error).strip().splitlines() or [type(error).__name__])[0][:300])


def _open_tflite(path: Path, threads: int) -> ExportedNetwork:
    interpreter_of = _interpreter()
    try:
        interpreter = interpreter_of(model_path=str(path), num_threads=threads or None)
        sizes = [math.prod(map(int, tensor["shape"])) for tensor in interpreter.get_tensor_details()]
        if max(sizes, default=0) > MAX_TENSOR:
            raise ValueError(f"a tensor has {max(sizes):,} numbers, and {MAX_TENSOR:,} are the most that are read")
        interpreter.allocate_tensors()
        source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    except (ValueError, RuntimeError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{escaped(path)} does not load in this TFLite runtime ({_first_line(error)}).") from None

    def run(batch: np.ndarray) -> np.ndarray:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(source["index"], batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    signature = source.get("shape_signature", source["shape"])
    input_shape = (*map(int, signature[:1]), *map(int, source["shape"][1:]))
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
        source, result = session.get_inputs()[0], session.get_outputs()[0]
    except Exception as error:  # onnxruntime raises classes of its own, which have no common base
        raise UserError(f"{escaped(path)} does not load in onnxruntime ({_first_line(error)}).") from None

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run([result.name], {source.name: batch})[0]

    shapes = [tuple(n if isinstance(n, int) else -1 for n in tensor.shape) for tensor in (source, result)]
    dtypes = ["float32" if tensor.type == "tensor(float)" else tensor.type for tensor in (source, result)]
    return ExportedNetwork(shapes[0], shapes[1], (dtypes[0], dtypes[1]), run)


def _interpreter() -> Any:
    for name in INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError('A .tflite model needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.')
