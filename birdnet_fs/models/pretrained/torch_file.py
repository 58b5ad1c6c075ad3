"""Read the tensors of a torch or safetensors file that may come from a stranger; nothing in it is executed.

`torch.load(weights_only=True)` refuses every function that a pickle calls, apart from those that make tensors and plain
containers. What remains is memory: compressed members of the archive, storages that are larger than the file, and views
that repeat one number. Sizes are compared with the size of the file before anything of that size is made.

A checkpoint may hold more than one state dict. It is unwrapped by the keys that trainers use; weights averaged over the
training (EMA) come before the others, as in timm. Prefixes of all names, as of DataParallel, are removed.
"""

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

State = dict[str, np.ndarray]  # torch's name of a tensor -> its values
SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
AVERAGED = ("model_ema", "state_dict_ema", "ema_state_dict", "ema")  # keys of averaged weights in a checkpoint
PLAIN = ("model", "state_dict", "model_state_dict", "net", "network", "model_state", "weights")
PREFIXES = ("module.", "_orig_mod.", "model.")  # DataParallel and AveragedModel, torch.compile, Lightning
COUNTER = "n_averaged"  # of torch's AveragedModel
MOST_WRAPPED = 4  # state dicts inside each other


class _Unread:
    """Placeholder for objects of a checkpoint that are not created: NumPy arrays, arguments of the trainer."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


_NUMPY = ("multiarray._reconstruct", "multiarray.scalar")
UNREAD: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, name)
    for name in (
        *(f"{core}.{part}" for core in ("numpy.core", "numpy._core") for part in _NUMPY),
        "numpy.ndarray",
        "numpy.dtype",
        "argparse.Namespace",
    )
]


def read(file: Path | str) -> State:
    """Read a state dict, or a checkpoint that holds one.

    Args:
        file: A .pth, .pt or .bin file of torch, or a .safetensors file.

    Returns:
        torch's name of a tensor -> float32 array [...], without prefixes of all names.

    Raises:
        UserError: The file is damaged, holds code or something else than tensors by name, holds several networks, or
            its tensors are larger than the file.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        if Path(file).suffix == ".safetensors":
            from safetensors.torch import load_file

            return {name: tensor.float().numpy() for name, tensor in _state(load_file(file)).items()}
        size = Path(file).stat().st_size
        _refuse_compressed(file)
        with torch.serialization.safe_globals(UNREAD):
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
        raise UserError(
            f"{file} is not a readable state dict of torch ({escaped(reason or type(error).__name__)}); download it "
            "again, or save model.state_dict()."
        ) from None


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

    state = _unwrapped(stored)
    if not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) and tensor.is_floating_point() | (tensor.ndim == 0)
        for name, tensor in state.items()
    ):
        raise TypeError("it holds no tensors by name")
    if any(tensor.layout != torch.strided or tensor.is_quantized for tensor in state.values()):
        raise TypeError("it holds sparse or quantized tensors")
    return _without_prefixes({name: tensor for name, tensor in state.items() if name != COUNTER})


def _unwrapped(stored: Any) -> Mapping[str, Any]:
    """The state dict in a checkpoint."""
    for _ in range(MOST_WRAPPED):
        if not isinstance(stored, dict):
            raise TypeError("it holds no tensors by name")
        given = [key for key in (*AVERAGED, *PLAIN) if isinstance(stored.get(key), dict) and stored[key]]
        averaged = [key for key in given if key in AVERAGED]
        if len(averaged or given) > 1:
            raise TypeError(f"it holds several networks: {', '.join(averaged or given)}")
        if not given:
            break
        stored = stored[(averaged or given)[0]]
    return stored


def _without_prefixes(state: dict[str, Any]) -> dict[str, Any]:
    """Remove each of PREFIXES that all names begin with, in any order."""
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
