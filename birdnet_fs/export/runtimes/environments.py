"""Python environments in which artifacts are verified: this one, and others named by the user.

Some runtimes cannot be installed in this environment (tflite-runtime 2.14 needs NumPy 1, onnx2tf an older TensorFlow).
Each has its own, made with `python -m venv` from a file `export/requirements-*.txt`. Their Python executables are given
with `--environment` or, permanently, in BIRDNET_FS_ENVIRONMENTS (separated as in PATH).
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.runtimes import birdnet_host, run_model, subprocesses

VARIABLE = "BIRDNET_FS_ENVIRONMENTS"
# format -> engines of run_model.py that open it, the required one first
ENGINES = {
    "tflite": ("ai-edge-litert", "tflite-runtime", "tflite-runtime-default"),
    "onnx": ("onnxruntime",),
    "torchscript": ("torch",),
    "pt2": ("torch",),
    "openvino": ("openvino",),
}
BIRDNET_HOST = "birdnet"  # the package, which loads TFLite files as custom models
_LIMIT_S = 3600  # for one file and all inputs; a hanging runtime ends the export with an error


@dataclass(frozen=True)
class Environment:
    """A Python executable and the versions of its packages, by name on PyPI."""

    python: Path
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Runtime:
    """A runtime in an environment."""

    engine: str  # key of run_model.ENGINES, or BIRDNET_HOST
    version: str
    python: Path

    @property
    def name(self) -> str:
        """Name in tables, such as "tflite-runtime 2.14.0, default delegate"."""
        plain, _, default = self.engine.partition("-default")
        del default
        return f"{plain} {self.version}" + (", default delegate" if plain != self.engine else "")


def find_environments(pythons: Sequence[Path | str] = ()) -> list[Environment]:
    """This environment, the given ones and those of BIRDNET_FS_ENVIRONMENTS, each once.

    Args:
        pythons: Python executables of other environments. A UserError is raised for one that cannot be run.

    Returns:
        The environments, this one first.
    """
    named = [*map(str, pythons), *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    found = [Environment(Path(sys.executable), run_model.installed_runtimes())]
    for python in dict.fromkeys(named):
        found.append(Environment(Path(python), _list_packages(python)))
    return found


def find_runtimes(format: str, environments: Sequence[Environment], *, host: bool = False) -> list[Runtime]:
    """Every engine that opens a format, once for each installed version.

    Args:
        format: A key of `ENGINES`.
        environments: Environments to search.
        host: Include the `birdnet` package. Default: false.

    Returns:
        The runtimes, the required engine first.

    Raises:
        UserError: No environment has the required engine.
    """
    found: dict[tuple[str, str], Runtime] = {}
    for engine in (*ENGINES[format], *([BIRDNET_HOST] if host else [])):
        package = engine.removesuffix("-default")
        for i, environment in enumerate(environments):
            if (
                i and "onnx2tf" in environment.packages
            ):  # environment of the second converter; devices do not have its runtimes
                continue
            if package in environment.packages:
                key = (engine, environment.packages[package])
                found.setdefault(key, Runtime(engine, environment.packages[package], environment.python))
    needed = ENGINES[format][0]
    if not any(engine == needed for engine, _ in found):
        extra = {"tflite": "export", "onnx": "onnx"}.get(format, needed)
        raise UserError(f'Exporting {format} needs {needed} to verify the file: pip install "birdnet_fs[{extra}]"')
    return list(found.values())


def run_on(
    runtime: Runtime, model: Path, inputs: Path, outputs: Path, *, batch: int = 1, labels: Path | None = None
) -> list[np.ndarray]:
    """Run a file on all inputs in a separate process.

    Args:
        runtime: The runtime.
        model: The file, with one input.
        inputs: `.npy` float32 [n, ...], one row per segment.
        outputs: `.npz` that the process writes.
        batch: Rows per call, 1 or more. Default: 1.
        labels: The labels file, needed by the `birdnet` package only.

    Returns:
        float32 [n, ...] for each output in the order of the file, the predictions [n, n_classes] first; the `birdnet`
        package gives the predictions only.

    Raises:
        UserError: The runtime refused the file, crashed or exceeded the time limit; its last output is in the message.
    """
    outputs.unlink(missing_ok=True)
    arguments: list[object] = [run_model.__file__, runtime.engine, model, inputs, outputs, batch]
    if runtime.engine == BIRDNET_HOST:
        arguments = [birdnet_host.__file__, model, labels, inputs, outputs, "--batch", batch, "--raw"]
    try:
        done = subprocesses.run_python(runtime.python, arguments, stale=True, timeout_s=_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise UserError(f"{runtime.name} did not end within {_LIMIT_S} s") from None
    if done.returncode or not outputs.is_file():
        why = f"exit status {done.returncode}: {subprocesses.last_output(done)}"
        raise UserError(f"{runtime.name} cannot run the converted network ({why})")
    with np.load(outputs, allow_pickle=False) as stored:
        if runtime.engine == BIRDNET_HOST:
            return [stored["scores"]]
        return [stored[f"arr_{i}"] for i in range(len(stored.files))]


@cache
def _list_packages(python: str) -> Mapping[str, str]:
    wanted = f"--environment must be the Python of another environment, such as device/bin/python. Received: {python}"
    try:
        done = subprocesses.run_python(Path(python), [run_model.__file__, "--packages"], timeout_s=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{wanted} ({error})") from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise UserError(f"{wanted} (output: {subprocesses.last_output(done)})") from None
