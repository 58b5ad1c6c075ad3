"""Score a recording with an exported TFLite network; only NumPy and one runtime are needed.

    python run_tflite.py MODEL.tflite AUDIO.wav [--top 5] [--json]

The folder of MODEL.tflite must hold MODEL.json (input format), MODEL_Labels.txt and, for a network that reads features,
MODEL_frontend.npz. The runtime is ai-edge-litert, or tflite-runtime where only that is available. This file can be
copied anywhere together with reading.py.
"""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from reading import MAX_NUMBERS, Artifact, InputError, Network, first_line, open_artifact, score_command


def load(model: Path, *, verify: bool = True) -> Artifact:
    """Open MODEL.tflite with its sidecars; `verify` compares its SHA-256 with that in the sidecar."""
    return open_artifact(model, ".tflite", open_runtime, verify=verify)


def open_runtime(model: Path) -> Network:
    """Open a TFLite file with the installed runtime.

    Args:
        model: The file.

    Returns:
        The network; its `forward` runs the file on float32 [batch, ...].

    Raises:
        InputError: No runtime is installed, or it cannot load the file.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        extra: dict[str, Any] = {}
    except ImportError:
        try:
            from tflite_runtime.interpreter import Interpreter, OpResolverType
        except ImportError:
            raise InputError("A TFLite runtime is needed: pip install ai-edge-litert") from None
        # the default delegate silently miscomputes convolutions with a stride larger than their kernel
        extra = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
    try:
        interpreter = Interpreter(model_path=str(model), num_threads=1, **extra)
        if any(math.prod(map(int, one["shape"])) > MAX_NUMBERS for one in interpreter.get_tensor_details()):
            raise ValueError(f"a tensor has more than {MAX_NUMBERS:,} numbers")
        interpreter.allocate_tensors()
        given, wanted = interpreter.get_input_details()[0], interpreter.get_output_details()
        signature = [int(n) for n in given["shape_signature"]]  # -1 for a batch of any size
        widths = [int(output["shape"][-1]) for output in wanted]
    except (ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{model} does not load in this runtime: {first_line(error)}.") from None

    def forward(rows: np.ndarray) -> list[np.ndarray]:
        if tuple(interpreter.get_input_details()[0]["shape"]) != rows.shape:
            interpreter.resize_tensor_input(given["index"], rows.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], rows)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"]) for output in wanted]

    return Network([n if n > 0 else None for n in signature], widths, forward)


if __name__ == "__main__":
    sys.exit(score_command("run_tflite.py", load))
