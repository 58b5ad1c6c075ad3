"""The command line in a process of its own, as users run it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import preloaded

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def started(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    """Start `birdnet-fs ARGUMENTS` in a group of processes of its own, with the handling of signals of a shell."""
    command = [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def birdnet_fs(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `birdnet-fs ARGUMENTS`; there is never a traceback, and with `check` the exit status is 0."""
    command = ["-m", "birdnet_fs.cli.main", *arguments]
    result = preloaded.run_python(command, backend="torch", environment=ENVIRONMENT, cwd=cwd)
    assert "Traceback" not in result.stderr, result.stderr
    if check:
        assert result.returncode == 0, result.stderr
    return result


def in_new_process(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `birdnet-fs ARGUMENTS` in a process that shares nothing, not even imports, with others; it must succeed."""
    command = [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, arguments)]
    environment = {**os.environ, **ENVIRONMENT, "KERAS_BACKEND": "torch"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=500)
    assert "Traceback" not in result.stderr and result.returncode == 0, result.stderr
    return result
