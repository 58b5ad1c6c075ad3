"""Score a recording with an exported ONNX network: NumPy and onnxruntime, nothing else.

    python run_onnx.py MODEL.onnx AUDIO.wav [--top 5] [--json]

Beside MODEL.onnx lie MODEL.json (how to feed it), MODEL_Labels.txt and, for a network that reads features,
MODEL_frontend.npz. Copy this file anywhere, together with reading.py.
"""

import sys
from pathlib import Path

import numpy as np
from reading import Artifact, Network, Refused, open_artifact, run


def load(model: Path, *, verify: bool = True) -> Artifact:
    """Open MODEL.onnx with the files beside it; `verify` compares its SHA-256 with the sidecar's."""
    return open_artifact(model, ".onnx", open_runtime, verify=verify)


def open_runtime(model: Path) -> Network:
    """The file on onnxruntime, on one thread of the CPU."""
    try:
        import onnxruntime
    except ImportError:
        raise Refused("onnxruntime is needed: pip install onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class of their own in common
        raise Refused(f"{model} does not load in onnxruntime: {str(error).splitlines()[0]}") from None
    given, wanted = session.get_inputs()[0], session.get_outputs()

    def answer(rows: np.ndarray) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(None, {given.name: rows})
        return found

    # a batch of any size has a name instead of a number
    shape = [n if isinstance(n, int) else None for n in given.shape]
    return Network(shape, [int(output.shape[-1]) for output in wanted], answer)


if __name__ == "__main__":
    sys.exit(run("run_onnx.py", load))
