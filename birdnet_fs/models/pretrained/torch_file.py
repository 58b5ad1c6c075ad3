"""Read the tensors of a `.pth` file that may come from a stranger; nothing in it is executed.

`torch.load(weights_only=True)` refuses every function that a pickle calls, apart from those that make tensors and plain
containers. What remains is memory: compressed members of the archive, storages that are larger than the file, and views
that repeat one number. Sizes are compared with the size of the file before anything of that size is made.
"""

import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

State = dict[str, np.ndarray]  # torch's name of a tensor -> its values
Placeholders = Sequence[Callable[..., Any] | tuple[Callable[..., Any], str]]


def read_tensors(file: Path | str, placeholders: Placeholders = ()) -> State:
    """Read a state dict, or a checkpoint {"model": state dict, ...}.

    Args:
        file: The file.
        placeholders: Classes that `torch.load` puts in the place of others, with the names of these. Default: none.

    Returns:
        torch's name of a tensor -> float32 array [...].

    Raises:
        ValueError: The file is damaged, holds code or something else than tensors by name, or its tensors are larger
            than the file.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        size = Path(file).stat().st_size
        _refuse_compressed(file)
        with torch.serialization.safe_globals(list(placeholders)):
            with FakeTensorMode():  # takes no memory: a file may claim any size
                described = _state(torch.load(file, map_location="cpu", weights_only=True)).values()
                n_bytes = sum(tensor.numel() * tensor.element_size() for tensor in described)
                storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in described}
                n_stored = sum(storage.nbytes() for storage in storages.values())
            if max(n_bytes, n_stored) > size:
                raise ValueError(f"its tensors have {max(n_bytes, n_stored):,} bytes, and the file {size:,}")
            state = _state(torch.load(file, map_location="cpu", weights_only=True))
        return {name: tensor.detach().float().numpy() for name, tensor in state.items()}
    except Exception as error:  # a damaged file fails in torch, zipfile or the unpickler, each in its own way
        found = re.search(r"GLOBAL (\S+)", str(error)[:10_000])
        reason = f"it holds {found[1]}, which is never executed" if found else " ".join(str(error)[:300].split())[:200]
        raise ValueError(reason or type(error).__name__) from None


def _refuse_compressed(file: Path | str) -> None:
    """Refuse an archive with compressed or overlapping members, which torch does not write."""
    if not zipfile.is_zipfile(file):
        return  # the format of torch before 1.6
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError("it holds compressed parts, which torch does not write")
    if sum(member.file_size for member in members) > Path(file).stat().st_size:
        raise ValueError("its parts are larger than the file")


def _state(stored: Any) -> dict[str, Any]:
    import torch

    state = stored.get("model", stored) if isinstance(stored, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.is_floating_point() | (tensor.ndim == 0)
        for name, tensor in state.items()
    ):
        raise TypeError("it holds no tensors by name")
    if any(tensor.layout != torch.strided or tensor.is_quantized for tensor in state.values()):
        raise TypeError("it holds sparse or quantized tensors")
    return state
