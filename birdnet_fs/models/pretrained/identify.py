"""Recognize the network of a file of weights by its names and shapes, for messages about a wrong file."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from birdnet_fs.models import convnext, efficientnet, efficientnet_v2, resnet, vit

Shapes = Mapping[str, tuple[int, ...]]
RESNETS: dict[tuple[str, tuple[int, ...]], str] = {("basic", (2, 2, 2, 2)): "18", ("basic", (3, 4, 6, 3)): "34"}
RESNETS |= {("bottleneck", (3, 4, 6, 3)): "50", ("bottleneck", (3, 4, 23, 3)): "101"}
RESNETS |= {("bottleneck", (3, 8, 36, 3)): "152"}
PANNS = {14: "cnn14", 10: "Cnn10", 6: "Cnn6"}


class Found(NamedTuple):
    """A network that a file was recognized as.

    Attributes:
        what: Project and name, for a message.
        family: Family here, "" for none.
        network: Network here with its structure, "" for none.
    """

    what: str
    family: str = ""
    network: str = ""


# a tensor that only one kind of file has -> its description; for files whose networks are not converted
OTHERS = {
    r"stages\.0\.blocks\.0\.conv_dw\.weight": "timm's ConvNeXt",
    r"downsample_layers\.0\.0\.weight": "the ConvNeXt of its authors",
    r"conv_stem\.weight": "timm's EfficientNet",
    r"(vit\.)?embeddings\.cls_token": "the Vision Transformer of transformers",
    r"features\.denseblock1\.denselayer1\.norm1\.weight": "a DenseNet of torchvision",
    r"features\.0\.weight": "a VGG or AlexNet of torchvision",
    r"layers\.0\.blocks\.0\.attn\.relative_position_bias_table": "a Swin Transformer",
    r"htsat\S*|audio_branch\S*": "CLAP",
}


def of_torch(shapes: Shapes) -> Found | None:
    """Recognize the network of a state dict.

    Args:
        shapes: Shapes of the tensors by torch's name.

    Returns:
        The network; None if it is not a known one.
    """
    if "layer1.0.conv1.weight" in shapes and "conv1.weight" in shapes:
        return _resnet(shapes)
    if "features.1.0.layer_scale" in shapes:
        return _convnext(shapes)
    if "features.1.0.block.0.0.weight" in shapes:
        return _efficientnet(shapes)
    if {"cls_token", "patch_embed.proj.weight"} <= shapes.keys():
        return _vit("timm", shapes["patch_embed.proj.weight"], _count(r"blocks\.(\d+)\.", shapes))
    if {"class_token", "conv_proj.weight"} <= shapes.keys():
        depth = _count(r"encoder\.layers\.encoder_layer_(\d+)\.", shapes)
        return _vit("torchvision", shapes["conv_proj.weight"], depth)
    if "fc_audioset.weight" in shapes or "conv_block1.conv1.weight" in shapes:
        return _panns(shapes)
    return next(
        (Found(what) for pattern, what in OTHERS.items() if any(re.fullmatch(pattern, n) for n in shapes)), None
    )


def of_keras(shapes: Mapping[str, list[tuple[int, ...]]]) -> Found | None:
    """Recognize the network of a file of Keras weights.

    Args:
        shapes: Shapes of the arrays of each layer, by its name ("outer/inner" inside another).

    Returns:
        The network; None if it is not a known one.
    """
    if "vit_patching_and_embedding/patch_embedding" in {name.removeprefix("vi_t_backbone/") for name in shapes}:
        kernel = next((s[0] for name, s in shapes.items() if name.endswith("patch_embedding") and s), ())
        depth = _count(r".*transformer_block_(\d+)/", shapes)
        return _vit("keras_hub", (kernel[3], kernel[2], *kernel[:2]) if len(kernel) == 4 else (), depth)
    names = {name.rpartition("/")[2] for name in shapes}
    sizes = {found[1] for name in names if (found := re.match(r"convnext_([a-z]+)_stage_0_", name))}
    if sizes:
        size = sizes.pop()
        ours = f"convnext/{size}" if size in convnext.VARIANTS else ""
        return Found(f"keras.applications' ConvNeXt{size.capitalize()}", "convnext", ours)
    if "conv2_block1_1_conv" in names:
        return Found("a ResNet of keras.applications (other strides than torchvision's)", "", "")
    depths = _depths(r"block(\d+)([a-z]+)_project_conv", names)
    if depths:
        first = "efficientnet" if "block1a_dwconv" in names else "efficientnet_v2"
        variant = _variant(first, depths, as_torch=False)
        label = "EfficientNet" if first == "efficientnet" else "EfficientNetV2"
        return Found(f"keras.applications' {label}{variant.upper()}", first, f"{first}/{variant}" if variant else "")
    return None


def _resnet(shapes: Shapes) -> Found:
    counted = [_count(rf"layer{stage}\.(\d+)\.", shapes) for stage in range(1, 5)]
    kind = "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"
    inside = shapes.get("layer1.0.conv2.weight", ())
    if kind == "bottleneck" and inside[:2] != (64, 64):
        return Found("a ResNeXt or Wide ResNet", "resnet")
    depth = RESNETS.get((kind, tuple(counted)), "")
    network = f"resnet/{depth}" if depth in resnet.VARIANTS else ""
    return Found(f"torchvision's ResNet-{depth}" if depth else "a ResNet of torchvision", "resnet", network)


def _convnext(shapes: Shapes) -> Found:
    counted = tuple(_count(rf"features\.{place}\.(\d+)\.", shapes) for place in (1, 3, 5, 7))
    width = shapes.get("features.0.0.weight", (0,))[0]
    for variant, size in convnext.VARIANTS.items():
        if (size.n_blocks, size.channels[0]) == (counted, width):
            return Found(f"torchvision's ConvNeXt ({variant})", "convnext", f"convnext/{variant}")
    return Found("a ConvNeXt of torchvision", "convnext")


def _efficientnet(shapes: Shapes) -> Found:
    places = [int(name.split(".")[1]) for name in shapes if re.match(r"features\.\d+\.0\.block\.", name)]
    counted = tuple(_count(rf"features\.{place}\.(\d+)\.block\.", shapes) for place in range(1, max(places) + 1))
    fused = "features.1.0.block.1.fc1.weight" not in shapes  # the first stage has no squeeze-and-excitation
    family = "efficientnet_v2" if fused else "efficientnet"
    variant = _variant(family, counted, as_torch=True)
    label = "EfficientNetV2" if fused else "EfficientNet"
    size = variant.removesuffix("_torch").upper()
    named = f"torchvision's {label}-{size}" if variant else f"an {label} of torchvision"
    return Found(named, family, f"{family}/{variant}" if variant else "")


def _variant(family: str, depths: tuple[int, ...], *, as_torch: bool) -> str:
    """Variant with these numbers of blocks; "" for none."""
    rows = efficientnet.VARIANTS if family == "efficientnet" else efficientnet_v2.VARIANTS
    for variant, size in rows.items():
        scaled = tuple(math.ceil(stage.n_blocks * size.depth) for stage in size.stages)
        if scaled == depths and size.as_torch == as_torch:
            return variant
    return ""


def _vit(project: str, kernel: tuple[int, ...], depth: int) -> Found:
    if len(kernel) != 4:
        return Found(f"a Vision Transformer of {project}", "vit")
    width, patch = kernel[0], kernel[-1]
    for variant, size in vit.VARIANTS.items():
        if (size.width, size.depth, size.patch) == (width, depth, patch):
            return Found(f"{project}'s ViT ({variant}, patches of {patch})", "vit", f"vit/{variant}")
    return Found(f"{project}'s ViT of width {width}, {depth} blocks and patches of {patch}", "vit")


def _panns(shapes: Shapes) -> Found:
    if any(name.startswith("conv_block") for name in shapes):
        n_layers = 2 * _count(r"conv_block(\d+)\.", shapes, first=1) + 2
        if "conv_block1.conv2.weight" not in shapes:
            n_layers = n_layers // 2 + 1
        name = PANNS.get(n_layers, "")
        return Found(f"PANNs' {name or 'CNN'}", "panns", "panns/cnn14" if name == "cnn14" else "")
    if "features.1.conv.0.weight" in shapes:
        return Found("PANNs' MobileNetV2", "panns", "panns/mobilenet_v2")
    if "features.1.0.weight" in shapes:
        return Found("PANNs' MobileNetV1", "panns", "panns/mobilenet_v1")
    return Found("a network of PANNs", "panns")


def _count(pattern: str, names: Iterable[str], first: int = 0) -> int:
    """Number of different numbers that a pattern finds at the start of names."""
    return len({int(found[1]) for name in names if (found := re.match(pattern, name)) and int(found[1]) >= first})


def _depths(pattern: str, names: Iterable[str]) -> tuple[int, ...]:
    """Number of blocks of each stage, by a pattern of (stage, letter)."""
    found = {match.groups() for name in names if (match := re.fullmatch(pattern, name))}
    stages = sorted({int(stage) for stage, _ in found})
    return tuple(sum(int(stage) == each for stage, _ in found) for each in stages)
