"""Description of a model by its text files, without its weights and without the library that runs it.

The verbs check their arguments against it, so that a wrong one is refused before Keras is imported.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

RUNTIMES = {".tflite": ("ai_edge_litert", "tflite_runtime"), ".onnx": ("onnxruntime",)}  # packages, one is enough
EXTRAS = {".tflite": "export", ".onnx": "onnx"}  # of birdnet_fs, which install the first


class ModelDescription(NamedTuple):
    """Classes and input of a model.

    Attributes:
        classes: Class names in model order.
        sample_rate_hz: Samples per second of the waveforms.
        segment_s: Length of a segment in seconds.
    """

    classes: tuple[str, ...]
    sample_rate_hz: int
    segment_s: float


def describe_model(path: Path | str) -> ModelDescription:
    """Read the description of a run folder, an ensemble, or `X.tflite` or `X.onnx` with the `X.json` beside it.

    Args:
        path: Folder or file.

    Returns:
        The description.

    Raises:
        UserError: The path is none of the three, a text file or the header of a weights file is damaged, or the runtime
            of an exported file is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return _describe_folder(path)
    suffix = path.suffix.lower()
    if suffix not in RUNTIMES or not path.is_file():
        what = "no such file or folder" if not path.exists() else "another kind of file"
        raise UserError(
            "A model must be a run folder (birdnet-fs train) or a .tflite or .onnx file. Received: "
            f"{escaped(path)}, {what}."
        )
    from birdnet_fs.inference.sidecar import read_sidecar

    sidecar = read_sidecar(path)
    if not any(importlib.util.find_spec(name) for name in RUNTIMES[suffix]):
        raise UserError(
            f"A {suffix} model needs {' or '.join(RUNTIMES[suffix])}; install it with "
            f'`pip install "birdnet_fs[{EXTRAS[suffix]}]"`.'
        )
    return ModelDescription(sidecar.classes, sidecar.frontend.sample_rate_hz, sidecar.frontend.segment_s)


def _describe_folder(path: Path) -> ModelDescription:
    from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
    from birdnet_fs.runs.run import WEIGHTS, load_run
    from birdnet_fs.runs.tensors import read_shapes

    runs = load_ensemble(path).members if is_ensemble(path) else (load_run(path),)
    for run in runs:
        read_shapes(run.path / WEIGHTS)
    return ModelDescription(
        runs[0].classes,
        max(run.frontend.sample_rate_hz for run in runs),
        max(run.frontend.segment_s for run in runs),
    )
