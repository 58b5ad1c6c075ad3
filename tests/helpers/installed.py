"""Skip what needs a package that is not installed, without importing it: TensorFlow takes seconds and 400 MB."""

import importlib.util

import pytest


def need(package: str) -> None:
    """Skip the test, or the module that is being collected, where a package is missing.

    Args:
        package: Name of the import.
    """
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)
