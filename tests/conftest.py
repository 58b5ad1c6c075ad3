"""Fixtures that every room's tests share."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("KERAS_BACKEND", "torch")  # some tests import keras before the package, which would set it

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the project; without it the test is skipped (CI forbids that)."""
    if not (SHARED / "data" / "metadata.csv").is_file():
        reason = "the real recordings (../shared/data) are not beside this checkout"
        if os.environ.get("BIRDNET_FS_REQUIRE_SHARED"):
            pytest.fail(reason)
        pytest.skip(reason)
    return SHARED / "data"
