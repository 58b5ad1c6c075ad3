"""Weights of keras.applications and keras_hub: read HDF5 files and map their layer names to those of this package.

Two layouts are supported: the legacy one of the published `*_notop.h5`, of Keras 2 and of `model.save("x.h5")`, where
attributes name layers and weights in order; and that of `.weights.h5`, also inside `.keras` archives, where each layer
has a group "vars" with its name. In both the weights are in the order of the layer. Files may be untrusted: they are
read dataset by dataset, links and references to other files are refused, and nothing in them is executed.

EfficientNet-B0 standardizes images inside the network; here the features come standardized
(frontend.normalize=z_score), and the statistics of the images are not read.
"""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.models.blocks import block_place
from birdnet_fs.models.efficientnet import Standardize

Stored = dict[str, list[np.ndarray]]  # by layer name in the file, "outer/inner" inside another, weights in its order
ARCHIVED = "model.weights.h5"
# rescaling of images, the last norm of ConvNeXt (which ours lacks) and the classifier of ImageNet's classes
NOT_OURS = re.compile(
    r"(layer_)?normalization(_\d+)?|\w+_(prestem_normalization|head_layernorm|head_dense)|predictions"
)


def read(file: Path) -> Stored:
    """Read the weights of a .h5, .weights.h5 or .keras file.

    Args:
        file: The file.

    Returns:
        Layer name in the file, as "outer/inner" in a file of Keras 3 where it is inside another layer -> float32 arrays
            in the order of the layer; layers without weights are omitted.

    Raises:
        UserError: The file is damaged, of another layout, or refers to other files.
    """
    try:
        with h5py.File(_unpacked(file) if file.suffix == ".keras" else file, "r") as opened:
            root = _child(opened, "model_weights") if "model_weights" in opened else opened
            legacy = {"layer_names", "layer_names0"} & set(root.attrs)
            bytes_left = _BytesLeft(file.stat().st_size)
            return _legacy(root, bytes_left) if legacy else _by_vars(root, bytes_left)
    except Exception as error:  # a damaged file fails in HDF5, h5py or zipfile, each in its own way
        reason = escaped(" ".join(str(error)[:300].split()) or type(error).__name__)
        raise UserError(f"{file} is not a readable file of Keras weights ({reason}); download it again.") from None


def mapped(model: keras.Model, name: str, stored: Stored) -> tuple[dict[str, np.ndarray], list[str]]:
    """Assign the arrays of a file to the variables of a network.

    Args:
        model: The network.
        name: Network as "family/variant", of a family in `NAMES`.
        stored: Output of `read`.

    Returns:
        (variable path -> array of the variable's shape [...], layers of the file without a counterpart).
    """
    family, _, variant = name.partition("/")
    stored = _innermost(stored)
    values: dict[str, np.ndarray] = {}
    used = set()
    for layer in model.layers:
        if isinstance(layer, Standardize):  # as in a new network: the identity
            values |= {v.path: np.full(v.shape, float(v is layer.variance), np.float32) for v in layer.weights}
            continue
        theirs = NAMES[family](layer.name, variant)
        if len(stored.get(theirs, ())) == len(layer.weights):
            used.add(theirs)
            values |= {v.path: _as_ours(layer, a) for v, a in zip(layer.weights, stored.get(theirs, ()), strict=True)}
    return values, [layer for layer in stored if layer not in used and not NOT_OURS.fullmatch(layer)]


def _innermost(stored: Stored) -> Stored:
    """The arrays by the name of the layer that holds them, whatever layers it is in (Sequential)."""
    found: Stored = {}
    for name, arrays in stored.items():
        layer = name.rpartition("/")[2]
        if layer in found:
            raise UserError(
                f"The file of weights has several layers named {layer!r}; save the network with other names."
            )
        found[layer] = arrays
    return found


def _efficientnet(ours: str, variant: str) -> str:
    return ours.replace("_depthwise_conv", "_dwconv").replace("_depthwise_bn", "_bn")


def _efficientnet_v2(ours: str, variant: str) -> str:
    return ours.replace("_depthwise_conv", "_dwconv2").replace("_depthwise_bn", "_bn")


def _convnext(ours: str, variant: str) -> str:
    block, _, part = ours.partition("_")
    if place := block_place(block):
        return f"convnext_{variant}_stage_{place[0] - 1}_block_{place[1]}_{PARTS_OF_CONVNEXT.get(part, part)}"
    part = {"norm": "layernorm"}.get(part, part)
    if found := re.fullmatch(r"down(\d+)", block):
        return f"convnext_{variant}_downsampling_{part}_{int(found[1]) - 2}"
    return f"convnext_{variant}_{block}_{part}"


PARTS_OF_CONVNEXT = {"norm": "layernorm", "expand": "pointwise_conv_1", "project": "pointwise_conv_2"}
# family -> function (our layer name, variant) -> Keras' name of the layer
NAMES: dict[str, Callable[[str, str], str]] = {
    "efficientnet": _efficientnet,
    "efficientnet_v2": _efficientnet_v2,
    "convnext": _convnext,
}


def _as_ours(layer: Any, value: np.ndarray) -> np.ndarray:
    """Kernels of grouped convolutions in Keras' ConvNeXt [7, 7, 1, width] as depthwise kernels [7, 7, width, 1]."""
    grouped = isinstance(layer, keras.layers.DepthwiseConv2D) and value.ndim == 4 and value.shape[2] == 1
    return value.transpose(0, 1, 3, 2) if grouped else value


def _unpacked(file: Path) -> io.BytesIO:
    with zipfile.ZipFile(file) as archive:
        member = archive.getinfo(ARCHIVED)
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{ARCHIVED} is compressed, which Keras does not do")
        if member.file_size > file.stat().st_size:
            raise ValueError(f"{ARCHIVED} is larger than the file that holds it")
        return io.BytesIO(archive.read(ARCHIVED))


def _legacy(root: h5py.Group, bytes_left: "_BytesLeft") -> Stored:
    stored: Stored = {}
    for layer in _names(root, "layer_names"):
        group = _child(root, layer)
        for weight in _names(group, "weight_names"):
            # weights of a Sequential are in its group: "stem/stem_conv/kernel", in Keras 2 "stem_conv/kernel:0"
            owner = weight.split("/")[-2] if "/" in weight else layer
            stored.setdefault(owner, []).append(_array(_child(group, weight), bytes_left))
    return stored


def _by_vars(root: h5py.Group, bytes_left: "_BytesLeft") -> Stored:
    stored: Stored = {}

    def visit(path: str, group: Any) -> None:  # h5py visits hard links only
        if path.startswith("layers/") and path.endswith("/vars") and len(group):
            if "name" not in group.attrs:
                raise ValueError(f"{path} does not name its layer; save the weights again with a newer Keras")
            arrays = [_array(_child(group, key), bytes_left) for key in sorted(group, key=int)]
            stored["/".join(_layer_names(root, path))] = arrays

    root.visititems(visit)
    if not stored:
        raise ValueError("it holds no layers")
    return stored


def _layer_names(root: h5py.Group, path: str) -> list[str]:
    """Names of the layers around a group "vars", from the outermost on, and of its own."""
    parts, names = path.split("/")[:-1], []
    for n in range(1, len(parts) + 1):
        place = "/".join([*parts[:n], "vars"])
        if place in root and "name" in root[place].attrs:
            names.append(str(root[place].attrs["name"]))
    return names


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names; long lists are divided into attribute0, attribute1, ..."""
    parts = [attribute] if attribute in group.attrs else [f"{attribute}{i}" for i in range(len(group.attrs))]
    names = [name for part in parts for name in group.attrs.get(part, ())]
    return [name.decode("utf-8") if isinstance(name, bytes) else str(name) for name in names]


def _child(parent: h5py.Group, path: str) -> Any:
    for part in path.split("/"):
        if not isinstance(parent.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} is missing or a link")
        parent = parent[part]
    return parent


class _BytesLeft:
    """The bytes of a file: datasets that share their bytes may not be read more often than the file is large."""

    def __init__(self, n_bytes: int) -> None:
        self.left = n_bytes

    def count(self, n_bytes: int) -> None:
        """Count the bytes of one dataset; ValueError when all datasets together are larger than the file."""
        self.left -= n_bytes
        if self.left < 0:
            raise ValueError("its arrays are larger than the file")


def _array(dataset: h5py.Dataset, bytes_left: _BytesLeft) -> np.ndarray:
    # its data are in this file, complete and uncompressed, as Keras writes them
    if dataset.external or dataset.is_virtual or dataset.id.get_storage_size() != dataset.nbytes:
        raise ValueError(f"{dataset.name} is not stored as plain data")
    bytes_left.count(dataset.nbytes)
    return np.asarray(dataset, np.float32)
