"""Load published weights into a network: of ImageNet (Keras', torchvision's, timm's) and AudioSet (PANNs); local files.

| file | families | expected input |
|---|---|---|
| .h5, .weights.h5, .keras of keras.applications (https://keras.io/api/applications/) | efficientnet/b0, \
efficientnet_v2 (b0-b3, s), convnext | mean 0, standard deviation 1 (images / 255, less .45, over .226); \
efficientnet_v2/s: -1 to 1 |
| .weights.h5 of keras_hub's presets of ViT | vit/base | -1 to 1 |
| .pth of torchvision (https://docs.pytorch.org/vision/stable/models.html) | resnet, convnext, efficientnet/b0_torch, \
efficientnet_v2/s_torch, vit/base | mean 0, standard deviation 1 |
| .safetensors, .bin, .pth of timm | vit, and resnet | mean 0, standard deviation 1 |
| .pth of PANNs (https://zenodo.org/records/3987831) | panns | the front-end preset `panns` |

The files of each network: schema/published_weights.py. The models of Keras rescale images in layers that are not part
of the networks here: the front-end has to bring features to that scale (`frontend.normalize=z_score` does; min_max only
approximates -1 to 1). Time corresponds to the height of an image, frequency to its width.

Images have three channels. In a network with n channels the kernel of every channel is the mean of the three kernels
(as in torch_impl and ANIMAL-SPOT for one channel), and the bias and moving statistics after it are scaled by n / 3, so
that n equal channels give the output of the published network for a gray image, frozen or not. Vision Transformers have
no norm behind the first layer that would undo a factor: there the kernel is the sum over n (vit_weights.py).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.schema.published_weights import wanted

if TYPE_CHECKING:
    import keras

    from birdnet_fs.models.pretrained.identify import Found

KERAS, TORCH = (".h5", ".keras"), (".pth", ".pt", ".bin", ".safetensors")
_BOTH = (*KERAS, *TORCH)
SUFFIXES: dict[str, tuple[str, ...]] = {
    "efficientnet": _BOTH,
    "efficientnet_v2": _BOTH,
    "convnext": _BOTH,
    "vit": _BOTH,
}
SUFFIXES |= {"resnet": TORCH, "panns": TORCH}
PADDED = ("efficientnet", "efficientnet_v2")  # families with variants that pad as torch, and others that pad as Keras
MAX_BYTES = 2_000_000_000  # of a file: more than twice the largest published one
MOST_NAMED = 4  # most names of one kind in a message
Values = dict[str, np.ndarray]  # by variable path of our network


def load(model: "keras.Model", file: Path | str, *, name: str) -> bool:
    """Set the weights of a network from a published file.

    Args:
        model: Network of `models.build`, changed in place, and only if all tensors of the backbone fit.
        file: A file of the table above; its suffix decides how it is read.
        name: "family/variant" of the network.

    Returns:
        Whether the head was set too (PANNs with its 527 classes); otherwise it keeps its values.

    Raises:
        UserError: The file is missing, of a kind that the family does not support, damaged, of another network, or its
            tensors do not fit.
    """
    name, file = models.resolve(name), Path(file)
    family, _, variant = name.partition("/")
    if not file.is_file():
        raise UserError(
            f"model.weights must be a file or a run folder that exists; {name} takes {wanted(name)}. "
            f"Received: {str(file)!r}"
        )
    if file.suffix not in SUFFIXES.get(family, ()):
        kinds = f"a file of {', '.join(SUFFIXES[family])} or " if family in SUFFIXES else ""
        raise UserError(f"model.weights of {name} must be {kinds}a run folder of {name}. Received: {str(file)!r}")
    if file.stat().st_size > MAX_BYTES:
        raise UserError(f"model.weights must be a file of {MAX_BYTES:,} bytes or fewer. Received: {str(file)!r}")
    from birdnet_fs.models.pretrained import identify, keras_h5, panns_pth, torch_file, torchvision_pth, vit_weights

    unused: list[str] = []
    if file.suffix in KERAS:
        stored = keras_h5.read(file)
        _refuse_other(file, name, identify.of_keras({key: [a.shape for a in value] for key, value in stored.items()}))
        read = vit_weights.mapped_keras_hub if family == "vit" else None
        values, unused = read(model, variant, stored) if read else keras_h5.mapped(model, name, stored)
    else:
        state = torch_file.read(file)
        _refuse_other(file, name, identify.of_torch({key: value.shape for key, value in state.items()}))
        if family == "panns":
            values = panns_pth.mapped(state, variant)
        elif family == "vit":
            values, unused = vit_weights.mapped_torch(model, variant, state)
        else:
            values, unused = torchvision_pth.mapped(model, name, state)
    return set_weights(model, adapt_channels(values, model.input_shape[-1]), source=f"{file}", unused=unused)


def _refuse_other(file: Path, name: str, found: "Found | None") -> None:
    """Refuse weights that were recognized as those of another network."""
    family, _, variant = name.partition("/")
    keras = file.suffix in KERAS
    if family in PADDED and models.family(name).VARIANTS[variant].as_torch == keras and not (found and found.network):
        padding = "at the end, as Keras does" if keras else "on both sides, as torch does"
        other = "Keras" if not keras else "torch"
        raise UserError(
            f"{file} is of a network that pads strided convolutions {padding}, and {name} pads as {other}; it takes "
            f"{wanted(name)}."
        )
    if found is None or name == found.network or (not found.network and family == found.family):
        return
    if found.network and name.startswith(f"{found.network}_") and family == "resnet":
        return  # ANIMAL-SPOT's max_pool
    change = f"set model.name={found.network}, or give " if found.network else "give "
    raise UserError(f"{file} looks like {found.what}, and model.name is {name}: {change}{wanted(name)}.")


def set_weights(
    model: "keras.Model",
    values: Mapping[str, np.ndarray],
    *,
    source: str,
    unused: Iterable[str] = (),
    head: bool = True,
) -> bool:
    """Set the variables of a network; those of the head only if all of them fit.

    Args:
        model: The network, changed in place. Nothing is changed if variables of the backbone do not fit.
        values: Arrays by variable path, each of the shape of its variable [...].
        source: File of the arrays, for messages.
        unused: Tensors of the source without a variable in the network; any is an error.
        head: Whether to set the head if it fits. Default: True.

    Returns:
        Whether the head was set.

    Raises:
        UserError: Tensors of the backbone are missing, of another shape, not finite, or have no variable; the message
            names them.
    """
    from birdnet_fs.models.heads import WEIGHTS as HEAD

    wanted = {v.path: v for v in model.weights if "seed_generator" not in v.path}
    ours = {path for path in wanted if path.startswith(HEAD)}
    fits = {path: path in values and tuple(values[path].shape) == tuple(v.shape) for path, v in wanted.items()}
    backbone = [path for path in wanted if path not in ours]
    # the head "sed" reads frames: a network with it has no embedding layer
    known = (*HEAD, "embedding")
    faults = {
        "missing": [path for path in backbone if path not in values],
        "too many": [*unused, *(path for path in values if path not in wanted and not path.startswith(known))],
        "of another shape": [
            f"{path} {tuple(values[path].shape)} (here {tuple(wanted[path].shape)})"
            for path in backbone
            if path in values and not fits[path]
        ],
    }
    if any(faults.values()):
        found = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults.items() if names)
        raise UserError(f"The weights in {source} do not fit the network {model.name}: {found}.")
    bad = [path for path in backbone if not np.isfinite(values[path]).all()]
    bad += [path for path in ours if head and fits[path] and not np.isfinite(values[path]).all()]
    if bad:
        raise UserError(
            f"The weights in {source} must be finite; {len(bad)} tensors hold NaN or infinity: {_some(bad)}. Download "
            "the file again, or use another model.weights."
        )
    head = head and all(fits[path] for path in ours)
    for path in (*backbone, *(ours if head else ())):
        wanted[path].assign(values[path])
    return head


def adapt_channels(values: Values, n_channels: int) -> Values:
    """Adapt weights for images, whose first kernel is [height, width, 3, n], to another number of input channels."""
    kernel = values.get("stem_conv/kernel")
    if kernel is None or kernel.ndim != 4 or kernel.shape[2] != 3 or n_channels == 3:
        return values  # `set_weights` refuses a kernel of another shape
    part = n_channels / 3  # of the sum over three equal channels
    mean = kernel.mean(2, keepdims=True).repeat(n_channels, axis=2)
    powers = {"stem_conv/bias": 1, "stem_bn/moving_mean": 1, "stem_bn/moving_variance": 2}
    scaled = {path: values[path] * np.float32(part**power) for path, power in powers.items() if path in values}
    return {**values, "stem_conv/kernel": mean, **scaled}


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
