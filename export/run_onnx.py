"""Score a recording with an exported ONNX network; only NumPy and onnxruntime are needed.

    python run_onnx.py MODEL.onnx AUDIO.wav [--top 5] [--json]

The folder of MODEL.onnx must hold MODEL.json (input format), MODEL_Labels.txt and, for a network that reads features,
MODEL_frontend.npz. This file can be copied anywhere together with reading.py.
"""

import sys
from pathlib import Path

import numpy as np
from reading import Artifact, InputError, Network, first_line, open_artifact, score_command


def load(model: Path, *, verify: bool = True) -> Artifact:
    """Open MODEL.onnx with its sidecars; `verify` compares its SHA-256 with that in the sidecar."""
    return open_artifact(model, ".onnx", open_runtime, verify=verify)


def open_runtime(model: Path) -> Network:
    """Open an ONNX file with onnxruntime, on one thread of the CPU.

    Args:
        model: The file.

    Returns:
        The network; its `forward` runs the file on float32 [batch, ...].

    Raises:
        InputError: onnxruntime is not installed, or it cannot load the file.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError("onnxruntime is needed: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        given, wanted = session.get_inputs()[0], session.get_outputs()
        widths = [int(output.shape[-1]) for output in wanted]
    except Exception as error:  # its errors have no common base class
        raise InputError(f"{model} does not load in onnxruntime: {first_line(error)}.") from None

    def forward(rows: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, {given.name: rows})
        return found

    # an open batch has a name instead of a number
    shape = [n if isinstance(n, int) else None for n in given.shape]
    return Network(shape, widths, forward)


if __name__ == "__main__":
    sys.exit(score_command("run_onnx.py", load))
