"""Start one of the exporter's own processes: a module of this package, its own backend, the CPU alone."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PACKAGES = Path(__file__).resolve().parents[2]


def run_module(
    module: str, arguments: Sequence[object], *, backend: str | None = None, stale: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments...` and wait; the process is ended when waiting is interrupted.

    With `stale`, memory that is allocated or freed is filled with rubbish (where the C library is glibc), so that what
    reads it before writing it answers wrongly here and not later.
    """
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),  # a checkout that is not installed works as well
        "PYTHONIOENCODING": "utf-8",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",  # conversion needs no GPU and must not take the memory of one
    }
    if stale:
        environment["MALLOC_PERTURB_"] = "85"
    if backend:
        environment["KERAS_BACKEND"] = backend
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """The last line a process said before it failed, for an error message."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"
