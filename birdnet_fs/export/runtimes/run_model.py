"""Run a model file: `PYTHON run_model.py RUNTIME MODEL INPUTS.npy OUTPUTS.npz [BATCH]`, or `run_model.py --packages`.

This runs as a separate process, because some files abort the process that opens them (SIGABRT inside the runtime) and
because neither Keras nor the framework that wrote the file may be involved. It imports NumPy and the runtime only and
nothing of this package, so that it also runs in another environment (environments.py). `--packages` prints the
installed runtimes as JSON.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

PACKAGES = (
    *("ai-edge-litert", "tflite-runtime", "onnxruntime", "torch", "openvino"),
    *("birdnet", "birdnet-analyzer", "onnx2tf", "numpy"),
)
Outputs = Callable[[np.ndarray], "list[np.ndarray]"]  # inputs [batch, ...] -> each output [batch, ...]


def installed_runtimes() -> "dict[str, str]":
    """Versions of the installed packages of `PACKAGES`, by name on PyPI."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def litert(model: str) -> Outputs:
    """TFLite on ai-edge-litert with its default delegate."""
    from ai_edge_litert.interpreter import Interpreter

    return _tflite(Interpreter(model_path=model, num_threads=1))


def tflite_runtime(model: str) -> Outputs:
    """TFLite on tflite-runtime without its default delegate, as `run_tflite.py` opens it."""
    from tflite_runtime.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return _tflite(Interpreter(model_path=model, num_threads=1, experimental_op_resolver_type=plain))


def tflite_runtime_default(model: str) -> Outputs:
    """TFLite on tflite-runtime with its default delegate (XNNPACK), as most programs open it."""
    from tflite_runtime.interpreter import Interpreter

    return _tflite(Interpreter(model_path=model, num_threads=1))


def _tflite(interpreter: Any) -> Outputs:
    interpreter.allocate_tensors()
    given, wanted = interpreter.get_input_details(), interpreter.get_output_details()
    if len(given) != 1:
        raise SystemExit(f"one input expected, found {len(given)}")

    def forward(rows: np.ndarray) -> "list[np.ndarray]":
        if tuple(interpreter.get_input_details()[0]["shape"]) != rows.shape:
            interpreter.resize_tensor_input(given[0]["index"], rows.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given[0]["index"], rows)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]).copy() for output in wanted]

    return forward


def onnx(model: str) -> Outputs:
    """ONNX on onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return lambda rows: session.run(None, {given.name: rows})


def torch(model: str) -> Outputs:
    """`.pt` (TorchScript) and `.pt2` (torch.export) on torch, without the code that made them."""
    import torch

    torch.set_num_threads(1)
    module = torch.export.load(model).module() if model.endswith(".pt2") else torch.jit.load(model)

    def forward(rows: np.ndarray) -> "list[np.ndarray]":
        with torch.inference_mode():
            found = module(torch.from_numpy(rows))
        return [output.numpy() for output in (found if isinstance(found, (tuple, list)) else [found])]

    return forward


def openvino(model: str) -> Outputs:
    """OpenVINO on the CPU in float32; its default is bfloat16 where the processor has it."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)

    def forward(rows: np.ndarray) -> "list[np.ndarray]":
        found = compiled([rows])
        return [np.asarray(found[output]) for output in compiled.outputs]

    return forward


ENGINES = {
    "ai-edge-litert": litert,
    "tflite-runtime": tflite_runtime,
    "tflite-runtime-default": tflite_runtime_default,
    "onnxruntime": onnx,
    "torch": torch,
    "openvino": openvino,
}


def main(engine: str, model: str, inputs: str, outputs: str, batch: str = "1") -> None:
    """Run a file on all rows of an array and save its outputs.

    Args:
        engine: A key of `ENGINES`.
        model: The file.
        inputs: `.npy` float32 [n, ...].
        outputs: `.npz` to write, with the outputs [n, ...] as arr_0, arr_1, ...
        batch: Rows per call. Default: "1".
    """
    forward, size = ENGINES[engine](model), int(batch)
    rows = np.load(inputs, mmap_mode="r", allow_pickle=False)
    found = [forward(np.ascontiguousarray(rows[i : i + size], np.float32)) for i in range(0, len(rows), size)]
    with open(outputs, "wb") as file:
        np.savez(file, *(np.concatenate([each[k] for each in found]) for k in range(len(found[0]))))


if __name__ == "__main__":
    if sys.argv[1:] == ["--packages"]:
        print(json.dumps(installed_runtimes()))
    else:
        main(*sys.argv[1:])
