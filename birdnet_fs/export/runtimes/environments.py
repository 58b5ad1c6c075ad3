"""The Pythons that artifacts are tried on: this one, and those of other environments that the user names.

A device has a runtime that cannot live beside ours (tflite-runtime 2.14 wants NumPy 1, onnx2tf an older TensorFlow), so
each has an environment of its own, made with `python -m venv` from a file `export/requirements-*.txt`. Their Pythons
are given with `--environment` or, for good, in BIRDNET_FS_ENVIRONMENTS (separated as in PATH).
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
# format -> the engines of ask.py that open it, the one that must be there first
ENGINES = {
    "tflite": ("ai-edge-litert", "tflite-runtime", "tflite-runtime-default"),
    "onnx": ("onnxruntime",),
    "torchscript": ("torch",),
    "pt2": ("torch",),
    "openvino": ("openvino",),
}
BIRDNET_HOST = "birdnet"  # the package, which loads TFLite files as models of its own
_LIMIT_S = 3600  # for one file and all inputs; a runtime that hangs ends the export with a sentence


@dataclass(frozen=True)
class Environment:
    """A Python and the versions of what it has, by name on PyPI."""

    python: Path
    has: Mapping[str, str]


@dataclass(frozen=True)
class Runtime:
    """One way to run a file."""

    engine: str  # of ask.ENGINES
    version: str
    python: Path

    @property
    def name(self) -> str:
        """As it stands in tables: "tflite-runtime 2.14.0, default delegate"."""
        plain, _, default = self.engine.partition("-default")
        del default
        return f"{plain} {self.version}" + (", default delegate" if plain != self.engine else "")


def find_environments(pythons: Sequence[Path | str] = ()) -> list[Environment]:
    """This environment, those given and those of BIRDNET_FS_ENVIRONMENTS, each once.

    Raises:
        UserError: One is no Python that answers.
    """
    named = [*map(str, pythons), *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]
    found = [Environment(Path(sys.executable), run_model.installed_runtimes())]
    for python in dict.fromkeys(named):
        found.append(Environment(Path(python), _list_packages(python)))
    return found


def runtimes(format: str, environments: Sequence[Environment], *, host: bool = False) -> list[Runtime]:
    """Every engine that opens the format, once for each version of it; with `host` the `birdnet` package too.

    Raises:
        UserError: The first of `ENGINES[format]` is nowhere.
    """
    found: dict[tuple[str, str], Runtime] = {}
    for engine in (*ENGINES[format], *([BIRDNET_HOST] if host else [])):
        package = engine.removesuffix("-default")
        for i, environment in enumerate(environments):
            if i and "onnx2tf" in environment.has:  # the second converter's, whose runtimes are no device's
                continue
            if package in environment.has:
                key = (engine, environment.has[package])
                found.setdefault(key, Runtime(engine, environment.has[package], environment.python))
    needed = ENGINES[format][0]
    if not any(engine == needed for engine, _ in found):
        extra = {"tflite": "export", "onnx": "onnx"}.get(format, needed)
        raise UserError(f'Exporting {format} needs {needed} to prove it; install: pip install "birdnet_fs[{extra}]"')
    return list(found.values())


def run_on(
    runtime: Runtime, model: Path, inputs: Path, outputs: Path, *, batch: int = 1, labels: Path | None = None
) -> list[np.ndarray]:
    """What a file answers, computed in a process of its own.

    Args:
        runtime: Which one.
        model: The file, with one input.
        inputs: `.npy` float32 [n, ...], one row per segment.
        outputs: `.npz` that the process writes.
        batch: How many rows at once.
        labels: The labels file, which the host needs.

    Returns:
        float32 [n, ...] of each output in the file's order, the predictions [n, n_classes] first; of the host those
        alone.

    Raises:
        UserError: The runtime refused the file, died on it or did not end; its last words are given.
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
        done = subprocesses.run_python(Path(python), [run_model.__file__, "--what"], timeout_s=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{wanted} ({error})") from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise UserError(f"{wanted} (it said: {subprocesses.last_output(done)})") from None
