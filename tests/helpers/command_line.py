"""The command line in a process of its own, as users run it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def birdnet_fs(*arguments: object, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `birdnet-fs ARGUMENTS`; there is never a traceback, and with `check` the exit status is 0."""
    command = [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, timeout=500)
    assert "Traceback" not in result.stderr, result.stderr
    if check:
        assert result.returncode == 0, result.stderr
    return result
