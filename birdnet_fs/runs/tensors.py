"""Tensors in a `.safetensors` file that may come from a stranger: the header is checked before any tensor is read.

The file is a header of 8 bytes that gives the length of a JSON object, the object (name -> type, shape and place), and
the numbers (https://github.com/huggingface/safetensors). The library checks that the places follow each other and end
with the file. This module adds what it leaves to the caller: bounds, the types that this package writes, and numbers
that are finite.
"""

import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.core.json_file import parse_json
from birdnet_fs.core.text import escaped

if TYPE_CHECKING:
    import numpy as np

MAX_HEADER = 4_000_000  # bytes; the largest network has a thousand tensors, of a hundred bytes each
MAX_BYTES = 2_000_000_000  # of all tensors: five times the largest network; ONNX and TFLite files have the same limit
LARGEST_FILE = MAX_HEADER + MAX_BYTES
TYPES = {"F16": 2, "F32": 4, "F64": 8}  # bytes of a number; this package writes F32
Shapes = dict[str, tuple[int, ...]]


def read_shapes(file: Path | str) -> Shapes:
    """Read the shapes of all tensors, without the tensors.

    Args:
        file: The file.

    Returns:
        Shape by name.

    Raises:
        UserError: The file is missing, or its header is damaged or describes tensors of other types or of a larger size
            than the file has.
    """
    try:
        return _shapes(Path(file))
    except OSError as error:
        raise UserError(f"{escaped(file)} cannot be read ({error.strerror}); copy the run again.") from None
    except ValueError as error:
        raise _damaged(file, error) from None


def read_weights(file: Path | str) -> "dict[str, np.ndarray]":
    """Read all tensors.

    Args:
        file: The file.

    Returns:
        Arrays of any shape [...] by name, of finite numbers.

    Raises:
        UserError: The file is missing, its header is damaged or describes tensors of other types or of a larger size
            than the file has, or a number is NaN or infinite, and the tensor is named.
    """
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    read_shapes(file)
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(file, error) from None
    bad = [name for name, value in tensors.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(
            f"The weights in {escaped(file)} must be finite; {shown(bad[0])} holds NaN or infinity ({len(bad)} of "
            f"{len(tensors)} do). Train again, or take an earlier run."
        )
    return tensors


def check_shapes(file: Path | str, stored: Shapes, wanted: Shapes) -> None:
    """Compare the tensors of a file with those of a network.

    Args:
        file: The file, for messages.
        stored: Shapes by name in the file.
        wanted: Shapes by name in the network.

    Raises:
        UserError: Names or shapes differ; the first difference is named.
    """
    odd = sorted(set(stored) ^ set(wanted))
    if odd:
        side = "is missing from" if odd[0] in wanted else "is not in the network but is in"
        raise UserError(f"The network and {file} do not fit: {shown(odd[0])} {side} the file ({len(odd)} differ).")
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise UserError(
                f"The network and {file} do not fit: {name!r} has shape {stored[name]} in the file, {shape} in the "
                "network."
            )


def _damaged(file: Path | str, error: Exception) -> UserError:
    return UserError(
        f"{escaped(file)} is not a readable safetensors file ({escaped(error)[:200]}); copy the run again."
    )


def _shapes(file: Path) -> Shapes:
    with open(file, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        start = opened.read(8)
        if len(start) < 8:
            raise ValueError("it has fewer than 8 bytes")
        n_header = struct.unpack("<Q", start)[0]
        if n_header > min(size - 8, MAX_HEADER):
            raise ValueError(f"its header claims {n_header:,} bytes, more than the file has or a header needs")
        header = parse_json(opened.read(n_header))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    shapes = {name: _shape(name, tensor) for name, tensor in header.items() if name != "__metadata__"}
    n_bytes = sum(math.prod(shape) * TYPES[header[name]["dtype"]] for name, shape in shapes.items())
    if n_bytes > min(size - 8 - n_header, MAX_BYTES):
        raise ValueError(f"its header claims tensors of {n_bytes:,} bytes, and the file has {size - 8 - n_header:,}")
    return shapes


def _shape(name: str, tensor: Any) -> tuple[int, ...]:
    about: dict[str, Any] = tensor if isinstance(tensor, dict) else {}
    kind, shape = about.get("dtype"), about.get("shape")
    if not isinstance(kind, str) or kind not in TYPES:
        raise ValueError(f"{shown(name)} is of type {shown(kind)}, and {', '.join(TYPES)} are read")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 1 for n in shape):
        raise ValueError(f"{shown(name)} has the shape {shown(shape)}, and sizes of 1 or more are read")
    return tuple(shape)
