"""Runs TFLite and ONNX files: one function from a batch of waveforms to the wanted outputs.

TFLite runs on `ai_edge_litert`, or on `tflite_runtime` where only that is installed; ONNX runs on `onnxruntime`.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

INTERPRETERS = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")  # in order of preference
RunAll = Callable[[np.ndarray], list[np.ndarray]]  # input [n, ...] -> outputs [n, ...]


def tflite_interpreter() -> Any:
    """Find the TFLite runtime that is installed.

    Returns:
        Its class `Interpreter`.

    Raises:
        UserError: None is installed.
    """
    for name in INTERPRETERS:
        try:
            return importlib.import_module(name).Interpreter
        except ImportError:
            continue
    raise UserError('A .tflite file needs a TFLite runtime; install one with `pip install "birdnet_fs[export]"`.')


def tflite_function(content: bytes, shown: object, *, threads: int) -> RunAll:
    """A TFLite model as a function from its input to all its outputs.

    Args:
        content: Bytes of the file.
        shown: Name of the file for messages.
        threads: CPU threads, 1 or more; 0 = the runtime decides.

    Returns:
        The function; it resizes the input when the size of the batch changes.

    Raises:
        UserError: The runtime is missing or cannot load the model.
    """
    try:
        interpreter = tflite_interpreter()(model_content=content, num_threads=threads or None)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{escaped(shown)} does not load in the TFLite runtime ({_first_line(error)}).") from None
    given = interpreter.get_input_details()[0]["index"]
    wanted = [each["index"] for each in interpreter.get_output_details()]

    def run(batch: np.ndarray) -> list[np.ndarray]:
        if tuple(interpreter.get_input_details()[0]["shape"]) != batch.shape:
            interpreter.resize_tensor_input(given, batch.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given, batch)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in wanted]

    return run


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
        raise UserError(f"{escaped(path)} does not load in onnxruntime ({_first_line(error)}).") from None


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


def _first_line(error: Exception) -> str:
    return escaped((str(error).splitlines() or [type(error).__name__])[0])
