"""Versions of everything that cached values depend on besides recordings and settings: code, libraries, processor.

The last bits of decoded and resampled audio and of FFTs differ between versions of the libraries and between kinds of
processors. Values of one are therefore not used with another: a cache that several kinds of machines share holds
several copies.
"""

import functools
import hashlib
import platform
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import soundfile
import soxr
from llvmlite.binding import get_host_cpu_name

from birdnet_fs import __version__, audio, data, frontend


@functools.cache
def decoding_version() -> str:
    """Text that changes when a decoded waveform may."""
    code = _source(_folder(audio), "**/*.py"), _source(_folder(data), "waveforms.py")
    libraries = soundfile.__libsndfile_version__, soxr.__version__, soxr.__libsoxr_version__, np.__version__
    return " ".join((*code, *libraries, platform.machine(), get_host_cpu_name()))


@functools.cache
def frontend_version() -> str:
    """Text that changes when the features of a waveform may."""
    code = _source(_folder(frontend), "**/*.py")
    return " ".join((code, numba.__version__, np.__version__, platform.machine(), get_host_cpu_name()))


def _folder(package: ModuleType) -> Path:
    return Path(str(package.__file__)).parent


def _source(folder: Path, pattern: str) -> str:
    """Hash of source files, so that no change of them can be forgotten; the version of the package without sources."""
    files = sorted(folder.glob(pattern))
    if not files:
        return __version__
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
