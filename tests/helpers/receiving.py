"""Run scripts of the receiving side where no framework and nothing of this package can be imported."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import preloaded

RECEIVER = Path(__file__).parents[2] / "export"
FRAMEWORKS = ("torch", "keras", "tensorflow", "birdnet_fs", "librosa", "scipy", "jax")
BLOCKER = f"""
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FRAMEWORKS!r}:
            raise ImportError(name + " must not be imported here")
sys.meta_path.insert(0, Refuse())
"""


def module(name: str) -> ModuleType:
    """A module of export/, which is no package; one per process, so that their classes are the same for all tests."""
    sys.path.insert(0, str(RECEIVER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(RECEIVER))


def receive(script: str, *arguments: object, sound: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a script of the receiving side; without `sound` it has no library for audio files either."""
    blocker = BLOCKER if sound else BLOCKER.replace("'torch'", "'torch', 'soundfile', 'soxr'")
    code = f"""{blocker}
sys.path.insert(0, {str(RECEIVER)!r})
sys.argv = {[script, *map(str, arguments)]!r}
runpy.run_path({str(RECEIVER / script)!r}, run_name="__main__")
"""
    if sound:
        return preloaded.run_python(["-c", code], backend="")
    return subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, encoding="utf-8", check=False)
