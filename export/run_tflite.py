"""Score a recording with an exported TFLite network: NumPy and one runtime, nothing else.

    python run_tflite.py MODEL.tflite AUDIO.wav [--top 5] [--json]

Beside MODEL.tflite lie MODEL.json (how to feed it), MODEL_Labels.txt and, for a network that reads features,
MODEL_frontend.npz. The runtime is ai-edge-litert, or tflite-runtime where only that exists. Copy this file anywhere,
together with reading.py.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from reading import Artifact, Network, Refused, open_artifact, run


def load(model: Path, *, verify: bool = True) -> Artifact:
    """Open MODEL.tflite with the files beside it; `verify` compares its SHA-256 with the sidecar's."""
    return open_artifact(model, ".tflite", open_runtime, verify=verify)


def open_runtime(model: Path) -> Network:
    """The file on whichever runtime is installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        extra: dict[str, Any] = {}
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter, OpResolverType
        except ImportError:
            raise Refused("A TFLite runtime is needed: pip install ai-edge-litert") from None
        # its default delegate is wrong, without a word, for convolutions whose stride is larger than their kernel
        extra = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    try:
        interpreter = Interpreter(model_path=str(model), num_threads=1, **extra)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise Refused(f"{model} does not load in this runtime: {str(error).splitlines()[0]}") from None
    given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()
    signature = [int(n) for n in given["shape_signature"]]  # -1 for a batch of any size

    def answer(rows: np.ndarray) -> list[np.ndarray]:
        if tuple(interpreter.get_input_details()[0]["shape"]) != rows.shape:
            interpreter.resize_tensor_input(given["index"], rows.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], rows)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in wanted]

    return Network([n if n > 0 else None for n in signature], [int(o["shape"][-1]) for o in wanted], answer)


if __name__ == "__main__":
    sys.exit(run("run_tflite.py", load))
