"""torchvision's ImageNet weights (resnet, convnext, efficientnet): map them to names and axes used here.

All networks compute the same as torchvision's, for all sizes of features; of EfficientNet those with "_torch" in their
names, which pad strided convolutions as torch does. convnext lacks the LayerNorm behind the last stage
(`classifier.0`). timm's ResNets have torchvision's names and structure.
"""

import re
from collections.abc import Callable, Collection
from typing import Any

import keras
import numpy as np

from birdnet_fs.models.blocks import block_place
from birdnet_fs.models.pretrained.torch_file import State

# class layer (of convnext with the norm in front of it), and a counter of BatchNorm that nothing reads
CLASSES = {
    "resnet": r"fc",
    "convnext": r"classifier\.[02]",
    "efficientnet": r"classifier\.1",
    "efficientnet_v2": r"classifier\.1",
}
COUNTER = r"|.*\.num_batches_tracked"
SUFFIXES = {
    keras.layers.BatchNormalization: {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
    keras.layers.LayerNormalization: {"gamma": "weight", "beta": "bias"},
}


def mapped(model: keras.Model, name: str, state: State) -> tuple[dict[str, np.ndarray], list[str]]:
    """Map the tensors of a state dict to the variables of a network.

    Args:
        model: The network.
        name: Network as "family/variant", of a family in `NAMES`.
        state: Output of `torch_file.read`.

    Returns:
        (variable path -> array in Keras' order of axes [...], names of tensors without a counterpart).
    """
    family = name.partition("/")[0]
    to_theirs, not_ours = NAMES[family], re.compile(rf"({CLASSES[family]})\.(weight|bias){COUNTER}")
    layers = {layer.name for layer in model.layers}
    values, used = {}, set()
    for layer in filter(lambda layer: layer.weights, model.layers):
        prefix = to_theirs(layer.name, layers)
        for variable in layer.weights:
            suffix = SUFFIXES.get(type(layer), {}).get(variable.name, "bias" if variable.name == "bias" else "weight")
            theirs = prefix if prefix.endswith("layer_scale") else f"{prefix}.{suffix}"
            if theirs in state:
                used.add(theirs)
                values[variable.path] = _as_ours(layer, state[theirs])
    return values, [tensor for tensor in state if tensor not in used and not not_ours.fullmatch(tensor)]


def _as_ours(layer: Any, value: np.ndarray) -> np.ndarray:
    if isinstance(layer, keras.layers.DepthwiseConv2D) and value.ndim == 4:
        return value.transpose(2, 3, 0, 1)  # [width, 1, height, width of the kernel]
    if value.ndim == 3:
        return value.reshape(-1)  # LayerScale's [width, 1, 1]
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _split(ours: str) -> tuple[int, int, str, str]:
    """(stage from 1, repeat from 0, name of the block, rest of the name); stage and repeat are 0 outside blocks."""
    block, _, part = ours.partition("_")
    down = re.fullmatch(r"down(\d+)", block)
    return *((int(down[1]), 0) if down else block_place(block) or (0, 0)), block, part


def _resnet(ours: str, layers: Collection[str]) -> str:
    stage, repeat, _, part = _split(ours)
    if not stage:
        return {"stem_conv": "conv1", "stem_bn": "bn1"}.get(ours, ours)
    parts = {
        "first_conv": "conv1",
        "first_bn": "bn1",
        "second_conv": "conv2",
        "second_bn": "bn2",
        "third_conv": "conv3",
        "third_bn": "bn3",
        "shortcut_conv": "downsample.0",
        "shortcut_bn": "downsample.1",
    }
    return f"layer{stage}.{repeat}.{parts.get(part, part)}"


def _convnext(ours: str, layers: Collection[str]) -> str:
    stage, repeat, block, part = _split(ours)
    if block == "stem":
        return f"features.0.{('conv', 'norm').index(part)}"
    if block.startswith("down"):
        return f"features.{2 * stage - 2}.{('norm', 'conv').index(part)}"
    parts = {"depthwise_conv": "block.0", "norm": "block.2", "expand": "block.3", "project": "block.5"}
    return f"features.{2 * stage - 1}.{repeat}.{parts.get(part, part)}" if stage else ours


def _efficientnet(ours: str, layers: Collection[str]) -> str:
    stage, repeat, block, part = _split(ours)
    kind = {"conv": 0, "bn": 1}
    if ours in ("stem_conv", "stem_bn", "top_conv", "top_bn"):
        n_stages = max(_split(layer)[0] for layer in layers)
        return f"features.{0 if block == 'stem' else n_stages + 1}.{kind[part]}"
    # a fused block has no depthwise convolution, its first one no expansion: torchvision numbers existing steps only
    steps = [s for s in ("expand", "depthwise", "se", "project") if any(n.startswith(f"{block}_{s}_") for n in layers)]
    step, _, rest = part.rpartition("_")
    if not stage or step not in steps:
        return ours
    inside = {"reduce": "fc1", "expand": "fc2"}[rest] if step == "se" else kind[rest]
    return f"features.{stage}.{repeat}.block.{steps.index(step)}.{inside}"


# family -> function (our layer name, all our layer names) -> torchvision's prefix of the layer
NAMES: dict[str, Callable[[str, Collection[str]], str]] = {
    "resnet": _resnet,
    "convnext": _convnext,
    "efficientnet": _efficientnet,
    "efficientnet_v2": _efficientnet,
}
