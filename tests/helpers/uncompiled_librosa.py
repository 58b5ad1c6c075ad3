"""`import uncompiled_librosa as librosa`: librosa without the universal functions that it compiles when imported.

They take 40 s of CPU in a fresh environment. Those of single elements are left to NumPy; those of arrays (local maxima,
zero crossings, parabolic interpolation), which no test calls, raise TypeError.
"""

import functools
import importlib
from typing import Any

import librosa
import numba
import pytest

MODULES = ("util.utils", "core.audio", "core.pitch", "feature", "filters", "effects")


@functools.cache
def _load() -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("vectorize", "guvectorize"):
            patch.setattr(numba, name, lambda *signatures, **options: lambda function: function)
        for name in MODULES:
            importlib.import_module(f"librosa.{name}")


def __getattr__(name: str) -> Any:
    _load()
    return getattr(librosa, name)
