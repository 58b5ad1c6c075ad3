"""Pythons of other environments: those that BIRDNET_FS_ENVIRONMENTS names, else made from export/requirements-*.txt."""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from birdnet_fs.export.runtimes.environments import find_environments

_REQUIREMENTS = Path(__file__).parents[2] / "export"


@functools.cache
def python_with(package: str, requirements: str) -> Path:
    """A Python that has `package`; made once a session, the test fails where that cannot be done."""
    for environment in find_environments():
        if package in environment.packages and environment.python != Path(sys.executable):
            return environment.python
    folder = Path(_session_folder().name) / package
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--quiet", "-r", str(_REQUIREMENTS / requirements)]
    done = subprocess.run(pip, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        pytest.fail(f"{requirements} cannot be installed here: {done.stderr.strip().splitlines()[-1:]}")
    return python


@functools.cache
def _session_folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="other-pythons-")  # removed when the session ends
