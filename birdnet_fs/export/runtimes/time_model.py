"""Time a model file with its runtime: `PYTHON time_model.py MODEL THREADS BATCH`, controlled by benchmark.py.

It opens the file, runs it twice and prints one line of JSON. Each line of its input is then a number of seconds: it
runs the file for that long, at least three times, and prints the milliseconds of every call. After the line "end" it
prints its peak memory. It imports NumPy and the runtime only and nothing of this package.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def peak_memory() -> int:
    """Peak memory of this process in bytes; 0 where the system does not report it (Windows).

    Linux's VmHWM is preferred, because `ru_maxrss` starts at the value of the parent process after fork and exec.
    """
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:
            return 0
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def tflite(model: str, threads: int, batch: int) -> "tuple[list[int], Callable[[np.ndarray], object]]":
    """Open a file.

    Args:
        model: The file.
        threads: Threads of the runtime.
        batch: Segments per call.

    Returns:
        Shape of the input, and a function that runs the file on an array [batch, ...] of that shape.
    """
    interpreter = _interpreter()(model_path=model, num_threads=threads)
    given = interpreter.get_input_details()[0]
    shape = _shape([int(n) for n in given.get("shape_signature", given["shape"])], batch)
    if shape != list(given["shape"]):
        interpreter.resize_tensor_input(given["index"], shape)
    interpreter.allocate_tensors()

    def run(rows: np.ndarray) -> object:
        interpreter.set_tensor(given["index"], rows)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return shape, run


def _interpreter() -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter


def onnx(model: str, threads: int, batch: int) -> "tuple[list[int], Callable[[np.ndarray], object]]":
    """Open a file.

    Args:
        model: The file.
        threads: Threads of the runtime.
        batch: Segments per call.

    Returns:
        Shape of the input, and a function that runs the file on an array [batch, ...] of that shape.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = _shape([n if isinstance(n, int) else -1 for n in given.shape], batch)
    return shape, lambda rows: session.run(None, {given.name: rows})


def _shape(signature: "list[int]", batch: int) -> "list[int]":
    if signature[0] not in (-1, batch):
        raise SystemExit(f"batch {signature[0]}")
    return [batch, *signature[1:]]


def main(model: str, threads: str, batch: str) -> None:
    """Open the file, then time it as each line of the input requests.

    Args:
        model: `.tflite` or `.onnx` file.
        threads: Threads of the runtime.
        batch: Segments per call.
    """
    import_runtime = _interpreter if model.endswith(".tflite") else lambda: __import__("onnxruntime")
    import_runtime()
    without = peak_memory()
    start = time.perf_counter()
    shape, run = (tflite if model.endswith(".tflite") else onnx)(model, int(threads), int(batch))
    load_s = time.perf_counter() - start
    rows = (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)
    run(rows)
    run(rows)
    print(json.dumps({"load_s": load_s, "shape": shape, "without": without}), flush=True)
    for line in iter(sys.stdin.readline, "end\n"):
        if not line:
            return
        end = time.perf_counter() + float(line)
        times: list[float] = []
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            run(rows)
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(times), flush=True)
    print(json.dumps(peak_memory()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
