"""Opens TFLite and ONNX files in their runtimes; the one place of the package that does so for scoring and embedding.

Files may come from a stranger: sizes are bounded before anything of that size is allocated. TFLite runs on
`ai_edge_litert`, or on `tflite_runtime` where only that is installed; ONNX runs on `onnxruntime` or
OpenVINO.
"""

import functools
import importlib
import importlib.metadata
import importlib.util
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped

INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # in order of preference
ONNX_RUNTIMES = ("onnxruntime", "openvino", "fastest")
MAX_BYTES = 2_000_000_000  # of a file: the formats themselves have 2 GiB
MAX_TENSOR = 2**28  # numbers of one tensor of a network, 1 GB
RunAll = Callable[[np.ndarray], list[np.ndarray]]  # input [n, ...] -> outputs [n, ...]


def tflite_interpreter() -> Any:
    """Find the TFLite runtime that is installed.

    Returns:
        Its class `Interpreter`.

    Raises:
        UserError: No TFLite runtime is installed.
    """
    for name in INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError('A .tflite file needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.')


def tflite_runtime() -> str:
    """Name and version of the TFLite runtime that is installed; UserErrors of `tflite_interpreter` are passed on."""
    return named(tflite_interpreter().__module__.split(".")[0].replace("_", "-"))


def named(package: str) -> str:
    """Name and version of an installed package, such as "onnxruntime 1.23.2"."""
    return f"{package} {importlib.metadata.version(package)}"


def open_tflite(model: Path | bytes, shown: object, *, threads: int) -> Any:
    """Open a TFLite model in the runtime.

    Args:
        model: The file, or its bytes.
        shown: Name of the file for messages.
        threads: CPU threads, 1 or more; 0 = the runtime decides.

    Returns:
        An `Interpreter` whose tensors are allocated.

    Raises:
        UserError: The runtime is missing or cannot load the model, or a tensor is too large.
    """
    interpreter_of = tflite_interpreter()
    given = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    try:
        interpreter = interpreter_of(**given, num_threads=threads or None)
        sizes = [math.prod(map(int, tensor["shape"])) for tensor in interpreter.get_tensor_details()]
        if max(sizes, default=0) > MAX_TENSOR:
            raise ValueError(f"a tensor has {max(sizes):,} numbers, and {MAX_TENSOR:,} are the most that are read")
        interpreter.allocate_tensors()
        if not interpreter.get_input_details() or not interpreter.get_output_details():
            raise ValueError("it has no input or no output")
    except (ValueError, RuntimeError, IndexError, UnicodeDecodeError) as error:
        raise UserError(f"{escaped(shown)} does not load in this TFLite runtime ({first_line(error)}).") from None
    return interpreter


class Interpreters:
    """The interpreters of one TFLite model: one for every thread that runs it at the same time, opened when needed.

    A UserError of `open_tflite` is passed on.

    Args:
        content: Bytes of the file.
        shown: Name of the file for messages.
        threads: CPU threads of each, 1 or more; 0 = the runtime decides.

    Attributes:
        inputs: Details of each input, as the runtime gives them.
        outputs: Details of each output, as the runtime gives them.
    """

    def __init__(self, content: bytes, shown: object, *, threads: int) -> None:
        self._open = functools.partial(open_tflite, content, shown, threads=threads)
        self._idle = [self._open()]
        self.inputs: list[dict[str, Any]] = self._idle[0].get_input_details()
        self.outputs: list[dict[str, Any]] = self._idle[0].get_output_details()

    def run(self, batch: np.ndarray, outputs: Sequence[int]) -> list[np.ndarray]:
        """Run one batch [n, ...], as `run_tflite` does: copies of the outputs, [n, ...] each."""
        try:
            interpreter = self._idle.pop()
        except IndexError:  # other threads use them all
            interpreter = self._open()
        try:
            return run_tflite(interpreter, batch, outputs)
        finally:
            self._idle.append(interpreter)


def tflite_function(content: bytes, shown: object, *, threads: int) -> RunAll:
    """A TFLite model as a function from its input to all its outputs; a UserError of `open_tflite` is passed on.

    Args:
        content: Bytes of the file.
        shown: Name of the file for messages.
        threads: CPU threads, 1 or more; 0 = the runtime decides.

    Returns:
        The function, which several threads may call; it resizes the input when the size of the batch changes.
    """
    interpreters = Interpreters(content, shown, threads=threads)
    wanted = [each["index"] for each in interpreters.outputs]
    return lambda batch: interpreters.run(batch, wanted)


def run_tflite(interpreter: Any, batch: np.ndarray, outputs: Sequence[int]) -> list[np.ndarray]:
    """Run one batch.

    Args:
        interpreter: Interpreter, from `open_tflite`; its input is resized when the shape of the batch is another.
        batch: float32 [n, ...], the only input of the model.
        outputs: Indices of the wanted tensors.

    Returns:
        Copies of the tensors, [n, ...] each.
    """
    given = interpreter.get_input_details()[0]
    if tuple(given["shape"]) != batch.shape:
        interpreter.resize_tensor_input(given["index"], batch.shape)
        interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], batch)
    interpreter.invoke()
    return [interpreter.get_tensor(index) for index in outputs]


def onnx_session(path: Path, *, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` of a file, on the CPU.

    Args:
        path: The file.
        threads: CPU threads, 1 or more; 0 = the runtime decides.

    Returns:
        The session.

    Raises:
        UserError: onnxruntime is missing or cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError('A .onnx file needs onnxruntime; install it with `pip install "birdnet_fs[onnx]"`.') from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises classes of its own, which have no common base
        raise UserError(f"{escaped(path)} does not load in onnxruntime ({first_line(error)}).") from None


def onnx_function(path: Path, outputs: Sequence[str], *, threads: int) -> RunAll:
    """An ONNX file as a function from its only input to some of its outputs.

    A UserError of `onnx_session` is passed on.

    Args:
        path: The file.
        outputs: Names of the outputs, in the order of the result.
        threads: CPU threads, 1 or more; 0 = the runtime decides.

    Returns:
        The function.
    """
    session = onnx_session(path, threads=threads)
    name = session.get_inputs()[0].name
    return lambda batch: session.run(list(outputs), {name: batch})


def check_onnx_runtime(runtime: str, model: Path) -> None:
    """Refuse an unknown runtime, and one for .onnx files with another kind of model.

    Args:
        runtime: One of ONNX_RUNTIMES; "fastest" is taken with any model.
        model: The run, ensemble or file.

    Raises:
        UserError: The runtime is unknown, or is for .onnx files and the model is another.
    """
    if runtime not in ONNX_RUNTIMES:
        hint = nearest(runtime, ONNX_RUNTIMES)
        raise UserError(f"The runtime must be one of {', '.join(ONNX_RUNTIMES)}.{hint} Received: {escaped(runtime)!r}")
    if runtime != ONNX_RUNTIMES[-1] and model.suffix.lower() != ".onnx":
        raise UserError(f"The runtime {runtime} is for .onnx files. Received: {escaped(model)}")


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def openvino_model(path: Path, *, threads: int) -> Any:
    """An ONNX file compiled by OpenVINO for the CPU, with float32 arithmetic (its default may be bfloat16).

    Args:
        path: The file.
        threads: CPU threads, 1 or more; 0 = the runtime decides.

    Returns:
        An `openvino.CompiledModel`.

    Raises:
        UserError: OpenVINO is missing or cannot load the file.
    """
    try:
        import openvino
    except ImportError:
        raise UserError('OpenVINO is not installed: pip install "birdnet_fs[openvino]".') from None
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        return openvino.Core().compile_model(str(path), "CPU", settings)
    except Exception as error:  # OpenVINO raises RuntimeError and classes of its own
        raise UserError(f"{escaped(path)} does not load in OpenVINO ({first_line(error)}).") from None


def first_line(error: Exception) -> str:
    """First line of the message of an error, at most 300 characters, printable."""
    return escaped((str(error).strip().splitlines() or [type(error).__name__])[0][:300])
