"""Start a network from published weights: Keras' and torchvision's of ImageNet, PANNs' of AudioSet; nothing is fetched.

| file | families | what its weights expect as input |
|---|---|---|
| .h5, .weights.h5, .keras of keras.applications (https://keras.io/api/applications/) | efficientnet_v2 (b0-b3, s), \
convnext/tiny | mean 0 and deviation 1 (pictures / 255, less .45, over .226); efficientnet_v2/s: -1 to 1 |
| .pth of torchvision (https://docs.pytorch.org/vision/stable/models.html) | resnet, convnext/tiny, \
efficientnet_v2/s | mean 0 and deviation 1 |
| .pth of PANNs (https://zenodo.org/records/3987831) | panns | the front-end preset `panns` |

Keras' models rescale pictures in layers of their own, which are no part of our networks: it is for the front-end to
bring features to that scale (`frontend.normalize=z_score` does, min_max comes near -1 to 1 only). A picture's height
lies along time, its width along frequency.

Pictures have three channels. A network of another number n takes for every channel the mean of the three kernels
(torch_impl and ANIMAL-SPOT do so for one), and what follows them (bias, moving statistics) is scaled by n / 3, so that
n equal channels give what the published network gives for a gray picture, frozen or not.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birdnet_fs import models
from birdnet_fs.core.errors import UserError

if TYPE_CHECKING:
    import keras

KERAS, TORCH = (".h5", ".keras"), (".pth",)
SUFFIXES = {"efficientnet_v2": (*KERAS, *TORCH), "convnext": (*KERAS, *TORCH), "resnet": TORCH, "panns": TORCH}
MOST_NAMED = 4  # tensors of a kind in a message
Values = dict[str, np.ndarray]  # by variable path of our network


def load(model: "keras.Model", file: Path | str, *, name: str) -> bool:
    """Set the weights of a network from a published file.

    Args:
        model: The network, as `models.build` made it; set in place, and only when all fits.
        file: One of the table above; which kind is told by its suffix.
        name: The "family/variant" the network was built as.

    Returns:
        True when the head was set as well (PANNs with its 527 classes); else it keeps its values.

    Raises:
        UserError: No such file, none of a kind that is known for the family, damaged, or with tensors that do not fit.
    """
    name, file = models.resolve(name), Path(file)
    family, _, variant = name.partition("/")
    if not file.is_file():
        raise UserError(f"model.weights must be a file or a run folder that exists. Received: {str(file)!r}")
    if file.suffix not in SUFFIXES.get(family, ()):
        kinds = f"a file of {', '.join(SUFFIXES[family])} or " if family in SUFFIXES else ""
        raise UserError(f"model.weights of {name} must be {kinds}a run folder of {name}. Received: {str(file)!r}")
    from birdnet_fs.models.pretrained import keras_h5, panns_pth, torchvision_pth

    unused: list[str] = []
    if file.suffix in KERAS:
        values, unused = keras_h5.mapped(model, name, keras_h5.read(file))
    elif family == "panns":
        values = panns_pth.mapped(panns_pth.read(file), variant)
    else:
        values, unused = torchvision_pth.mapped(model, name, torchvision_pth.read(file))
    return fit(model, for_channels(values, model.input_shape[-1]), source=f"{file}", unused=unused)


def fit(
    model: "keras.Model",
    values: Mapping[str, np.ndarray],
    *,
    source: str,
    unused: Iterable[str] = (),
    head: bool = True,
) -> bool:
    """Set every variable of a network, the head's only when they all fit; nothing is set when the others do not.

    Args:
        model: The network.
        values: Arrays by variable path.
        source: Where they came from, for messages.
        unused: Tensors of the source that no variable of the network stands for: a fault, as is one too many here.
        head: False leaves the head as it is, whatever fits.

    Returns:
        True when the head was set.

    Raises:
        UserError: Tensors are missing, too many, or of another shape; they are named.
    """
    from birdnet_fs.models.heads import WEIGHTS as HEAD

    wanted = {v.path: v for v in model.weights if "seed_generator" not in v.path}
    ours = {path for path in wanted if path.startswith(HEAD)}
    fits = {path: path in values and tuple(values[path].shape) == tuple(v.shape) for path, v in wanted.items()}
    backbone = [path for path in wanted if path not in ours]
    # the head "sed" reads frames: a network with it has no layer that makes an embedding of them
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
        told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults.items() if names)
        raise UserError(f"The weights in {source} do not fit the network {model.name}: {told}.")
    head = head and all(fits[path] for path in ours)
    for path in (*backbone, *(ours if head else ())):
        wanted[path].assign(values[path])
    return head


def for_channels(values: Values, n_channels: int) -> Values:
    """Weights for pictures, whose first kernel has three channels, for a network of another number (see above)."""
    kernel = values.get("stem_conv/kernel")
    if kernel is None or kernel.shape[2] != 3 or n_channels == 3:
        return values
    part = n_channels / 3  # of what three equal channels give
    mean = kernel.mean(2, keepdims=True).repeat(n_channels, axis=2)
    powers = {"stem_conv/bias": 1, "stem_bn/moving_mean": 1, "stem_bn/moving_variance": 2}
    scaled = {path: values[path] * np.float32(part**power) for path, power in powers.items() if path in values}
    return {**values, "stem_conv/kernel": mean, **scaled}


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
