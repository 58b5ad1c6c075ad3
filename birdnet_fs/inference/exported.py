"""Engines of exported files: `X.tflite` or `X.onnx`, with the sidecar `X.json` that the exporter wrote beside it.

TFLite runs on `ai_edge_litert`, or on `tflite_runtime` where only that is installed (older devices); ONNX runs on
`onnxruntime`, or on OpenVINO where that is asked for or is the faster of the two. Where the output of a file is
probabilities, logits are computed from them.
"""

import math
import statistics
import threading
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.runtimes import (
    MAX_BYTES,
    MAX_TENSOR,
    Interpreters,
    first_line,
    has_openvino,
    named,
    onnx_session,
    openvino_model,
    tflite_runtime,
)
from birdnet_fs.inference.activations import to_logits
from birdnet_fs.inference.calibration.apply import calibrated
from birdnet_fs.inference.engine import Engine, NumpyFunction, network_features
from birdnet_fs.inference.sidecar import check_hash, read_sidecar

N_TIMED, BATCH_TIMED = 5, 8  # calls of which the median counts, after one more; windows in each
LEAST_GAIN = 1.1  # times as fast as onnxruntime that OpenVINO has to be, so that a second call chooses the same one
# of logits below 10 in size; TOLERANCES of export/parity allow another machine as much
AGREEMENT = 1e-3
ROUNDING = 0.02  # of a probability outside of 0..1, as an int8 network may give


class ExportedNetwork(NamedTuple):
    """A file that a runtime has opened.

    Attributes:
        input_shape: Shape of the input; -1 for a dimension of any size.
        output_shape: Shape of the output likewise.
        dtypes: Types of input and output.
        run: Input -> output; several threads may call it.
        runtime: Name and version of the runtime.
    """

    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    dtypes: tuple[str, str]
    run: NumpyFunction
    runtime: str


def open_artifact(path: Path, threads: int, runtime: str = "onnxruntime") -> Engine:
    """Open an exported file.

    Args:
        path: `X.tflite` or `X.onnx`, with `X.json` beside it.
        threads: CPU threads of the runtime; 0 = the runtime decides.
        runtime: One of ONNX_RUNTIMES, for `X.onnx`. Default: "onnxruntime".

    Returns:
        The engine.

    Raises:
        UserError: The sidecar is missing or does not describe the file, or the runtime is not installed or cannot load
            it.
    """
    sidecar = read_sidecar(path)
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{escaped(path)} must have {MAX_BYTES:,} bytes or fewer; export the run again.")
    identity = check_hash(path, sidecar)
    expected, n_classes, spec = sidecar.input_shape, len(sidecar.classes), sidecar.frontend
    if path.suffix.lower() == ".tflite":
        network = _open_tflite(path, threads)
    else:
        network = _open_onnx_by(runtime, path, threads, expected)
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
            raise UserError(f"{escaped(path)} cannot be run ({first_line(error)}); export the run again.") from None
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
        size = fixed if fixed > 0 else max(len(inputs), 1)
        if fixed == -1 and path.suffix.lower() == ".tflite":  # other numbers of rows are prepared anew
            size = 1
        short = -len(inputs) % size
        padded = np.concatenate([inputs, np.zeros((short, *inputs.shape[1:]), np.float32)]) if short else inputs
        found = [answer(padded[start : start + size]) for start in range(0, max(len(padded), 1), size)]
        return np.concatenate(found)[: len(inputs)]

    def forward(waveforms: np.ndarray) -> np.ndarray:
        found = run(waveforms)
        if sidecar.output == "logits":
            return found
        if found.min(initial=0) < -ROUNDING or found.max(initial=0) > 1 + ROUNDING:
            raise UserError(
                f"{escaped(path)} must give probabilities in 0..1, as its sidecar states; it gave {found.min():g} to "
                f"{found.max():g}; export the run again."
            )
        return to_logits(found, sidecar.activation).astype(np.float32)

    given = (sidecar.classes, spec, sidecar.activation, identity, forward)
    engine = Engine(*given, one_label=sidecar.one_label, runtime=network.runtime)
    return calibrated(engine, sidecar.calibration)


def _open_tflite(path: Path, threads: int) -> ExportedNetwork:
    interpreters = Interpreters(path.read_bytes(), path, threads=threads)
    source, result = interpreters.inputs[0], interpreters.outputs[0]
    signature = source.get("shape_signature", source["shape"])
    input_shape = (*map(int, signature[:1]), *map(int, source["shape"][1:]))
    dtypes = (np.dtype(source["dtype"]).name, np.dtype(result["dtype"]).name)

    def run(batch: np.ndarray) -> np.ndarray:
        return interpreters.run(batch, [result["index"]])[0]

    return ExportedNetwork(input_shape, tuple(map(int, result["shape"])), dtypes, run, tflite_runtime())


def _open_onnx_by(runtime: str, path: Path, threads: int, shape: tuple[int, ...]) -> ExportedNetwork:
    """Open an ONNX file in a runtime, for "fastest" in the faster of those that are installed."""
    if runtime == "openvino":
        return _open_openvino(path, threads)
    first = _open_onnx(path, threads)
    if runtime != "fastest":
        return first
    if not has_openvino():
        return first._replace(runtime=f"{first.runtime} (the only runtime for .onnx files that is installed)")
    second = _open_openvino(path, threads)
    size = first.input_shape[0] if first.input_shape and first.input_shape[0] > 0 else BATCH_TIMED
    if math.prod(shape) * size > MAX_TENSOR:
        return first
    n = size * math.prod(shape)
    inputs = (0.1 * np.sin(np.arange(n) ** 1.5)).astype(np.float32).reshape(size, *shape)  # sweeps, without repetition
    (found, seconds), (other, other_seconds) = (_timed(each, inputs) for each in (first, second))
    limit = AGREEMENT * max(1.0, float(np.abs(found).max(initial=0)) / 10)
    if found.shape != other.shape or not np.abs(found - other).max(initial=0) <= limit:
        return first._replace(runtime=f"{first.runtime} ({second.runtime} does not give the same scores)")
    chosen, beaten, gain = first, second, other_seconds / seconds
    if seconds > LEAST_GAIN * other_seconds:
        chosen, beaten, gain = second, first, seconds / other_seconds
    return chosen._replace(runtime=f"{chosen.runtime} ({gain:.1f} times as fast as {beaten.runtime} here)")


def _timed(network: ExportedNetwork, inputs: np.ndarray) -> tuple[np.ndarray, float]:
    """The output for a batch, and the median of the seconds that it takes."""
    found, spent = np.asarray(network.run(inputs)), list[float]()
    for _ in range(N_TIMED):
        start = time.perf_counter()
        network.run(inputs)
        spent.append(time.perf_counter() - start)
    return found, statistics.median(spent)


def _open_openvino(path: Path, threads: int) -> ExportedNetwork:
    compiled, local = openvino_model(path, threads=threads), threading.local()
    shapes = [
        tuple(int(n.get_length()) if n.is_static else -1 for n in port.partial_shape)
        for port in (compiled.inputs[0], compiled.outputs[0])
    ]
    types = [port.element_type.to_dtype().name for port in (compiled.inputs[0], compiled.outputs[0])]

    def run(batch: np.ndarray) -> np.ndarray:
        if not hasattr(local, "request"):  # a request is for one thread at a time
            local.request = compiled.create_infer_request()
        return np.array(local.request.infer([batch])[compiled.outputs[0]])

    return ExportedNetwork(shapes[0], shapes[1], (types[0], types[1]), run, named("openvino"))


def _open_onnx(path: Path, threads: int) -> ExportedNetwork:
    session = onnx_session(path, threads=threads)
    source, result = session.get_inputs()[0], session.get_outputs()[0]

    def run(batch: np.ndarray) -> np.ndarray:
        return session.run([result.name], {source.name: batch})[0]

    shapes = [tuple(n if isinstance(n, int) else -1 for n in tensor.shape) for tensor in (source, result)]
    dtypes = ["float32" if tensor.type == "tensor(float)" else tensor.type for tensor in (source, result)]
    return ExportedNetwork(shapes[0], shapes[1], (dtypes[0], dtypes[1]), run, named("onnxruntime"))
