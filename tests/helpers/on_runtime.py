"""Run a TFLite file on the runtime of this environment in a separate process."""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from birdnet_fs.export.runtimes.environments import Runtime, run_on


def run_tflite(model: Path, inputs: Path, outputs: Path, *, batch: int = 1, python: str = "") -> list[np.ndarray]:
    """Every output [n, ...] for the rows of `inputs`; with `python` on tflite-runtime of that environment."""
    engine = "tflite-runtime-default" if python else "ai-edge-litert"
    runtime = Runtime(engine, "" if python else version(engine), Path(python or sys.executable))
    return run_on(runtime, model, inputs, outputs, batch=batch)
