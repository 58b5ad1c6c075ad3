"""Imports of compiled packages, each in a process of its own, since a broken one can end the process or hang it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

LIMIT_S = 180.0  # for one import; TensorFlow needs 20 s on a Raspberry Pi with a slow card

# package on PyPI -> code that imports it, does one small piece of work, and sets `facts`
CODE = {
    "torch": """
import torch
facts = {"threads": torch.get_num_threads(), "cuda_build": torch.version.cuda or "", "gpus": [], "failed": []}
assert float((torch.ones(8, 8) @ torch.ones(8, 8)).sum()) == 512
for i in range(torch.cuda.device_count()):
    try:
        assert float((torch.ones(8, 8, device=i) @ torch.ones(8, 8, device=i)).sum()) == 512
        name, of = torch.cuda.get_device_name(i), torch.cuda.get_device_properties(i)
        facts["gpus"].append({"name": name, "memory": of.total_memory, "capability": f"{of.major}.{of.minor}"})
    except Exception as error:
        facts["failed"].append(str(error).strip().splitlines()[0])
""",
    "keras": """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras
facts = {"backend": keras.backend.backend(), "sum": float(keras.ops.sum(keras.ops.ones((2, 2))))}
""",
    "numba": """
import numba
facts = {"sum": numba.njit(lambda a, b: a + b)(1, 2)}
""",
    "soundfile": """
import soundfile
facts = {"libsndfile": soundfile.__libsndfile_version__, "formats": sorted(soundfile.available_formats())}
""",
    "tensorflow-cpu": """
import tensorflow as tf
facts = {"gpus": [device.name for device in tf.config.list_physical_devices("GPU")]}
assert float(tf.reduce_sum(tf.ones((2, 2)))) == 4
""",
    "ai-edge-litert": """
import ai_edge_litert.interpreter
facts = {}
""",
    "onnxruntime": """
import onnxruntime
facts = {"providers": [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]}
""",
    "openvino": """
import openvino
facts = {"devices": openvino.Core().available_devices}
""",
    "lightgbm": """
import lightgbm
facts = {}
""",
}


@dataclass(frozen=True)
class Imported:
    """Result of one import."""

    name: str  # package on PyPI
    facts: dict[str, Any] = field(default_factory=dict)
    failed: str = ""  # reason; "" when it works

    @property
    def works(self) -> bool:
        """Whether the package could be imported and did its piece of work."""
        return not self.failed


def try_imports(names: Iterable[str], *, n_workers: int = 1, limit_s: float = LIMIT_S) -> dict[str, Imported]:
    """Import packages, each in a process of its own.

    Args:
        names: Keys of `CODE`.
        n_workers: Processes at once, 1 or more. Default: 1.
        limit_s: Seconds for one of them. Default: LIMIT_S.

    Returns:
        The results by name, in the order of `names`.
    """
    chosen = list(names)
    with ThreadPoolExecutor(max(1, n_workers)) as pool:
        results = pool.map(lambda name: _import_one(name, limit_s), chosen)
        return dict(zip(chosen, results, strict=True))


def _import_one(name: str, limit_s: float) -> Imported:
    # what a library prints while it is imported must not be taken for the facts
    code = (
        f"import json, os, sys\nout = os.dup(1)\nos.dup2(2, 1)\n{CODE[name]}\nos.write(out, json.dumps(facts).encode())"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            timeout=limit_s,
            stdin=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Imported(name, failed=f"its import did not end within {limit_s:g} s")
    if done.returncode < 0:
        number = -done.returncode
        known = {int(one): one.name for one in signal.Signals}
        return Imported(name, failed=f"its import ended the process by {known.get(number, f'signal {number}')}")
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Imported(name, failed=said[-1].strip() if said else f"its import ended with status {done.returncode}")
    return Imported(name, json.loads(done.stdout))
