"""perch-hoplite 1.0.2 in an environment of its own, with what its databases need; audio and models are left out."""

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PACKAGE = "perch-hoplite==1.0.2"
NEEDED = ("absl-py", "etils[epath]", "ml-collections", "numpy", "usearch>=2.17,<3", "tqdm", "pandas")


@functools.cache
def hoplite_python() -> Path:
    """A Python with perch-hoplite; made once a session, the test is skipped where that cannot be done."""
    folder = Path(_folder().name)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    for packages in (("--no-deps", PACKAGE), NEEDED):
        done = subprocess.run([str(python), "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{packages[-1]} could not be installed: {done.stderr.strip().splitlines()[-1:]}")
    return python


def run_hoplite(code: str, *arguments: str) -> str:
    """The output of a program in that environment."""
    done = subprocess.run([str(hoplite_python()), "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@functools.cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="perch-hoplite-")
