"""Recognition of published files, and the sentence for a file of another network."""

import functools
from pathlib import Path

import convnext_twin
import efficientnet_twin
import keras
import pytest
import reference_panns
import resnet_twin
import torch
import vit_twin
from image_networks import embedding

from birdnet_fs.core.errors import UserError
from birdnet_fs.models import convnext, pretrained, vit
from birdnet_fs.models.pretrained import identify

BLOCKS = (3, 4, 6, 3)
TWINS = {  # network here -> torch network with the names and shapes of the published file
    "resnet/18": lambda: resnet_twin.ResNet(1000, n_channels=3),
    "resnet/34": lambda: resnet_twin.ResNet(1000, BLOCKS, n_channels=3),
    "resnet/50": lambda: resnet_twin.ResNet(1000, BLOCKS, bottleneck=True, n_channels=3),
    "efficientnet/b0_torch": lambda: efficientnet_twin.EfficientNet(efficientnet_twin.B0, 32, 1e-5, n_classes=1000),
    "efficientnet_v2/s_torch": lambda: efficientnet_twin.EfficientNet(efficientnet_twin.S, 24, 1e-3, n_classes=1000),
    **{
        f"convnext/{variant}": functools.partial(convnext_twin.ConvNeXt, 1000, size.n_blocks, size.channels, 3)
        for variant, size in convnext.VARIANTS.items()
    },
    **{
        f"vit/{variant}": functools.partial(vit_twin.TimmViT, size.width, size.depth, size.n_heads, 14)
        for variant, size in vit.VARIANTS.items()
    },
    **{f"panns/{name}": network for name, network in reference_panns.NETWORKS.items()},
}


def shapes_of(make) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return vit_twin.shapes(make())


@pytest.mark.parametrize("name", TWINS)
def test_published_file_is_recognized_and_fits_no_other_network(name: str) -> None:
    found = identify.of_torch(shapes_of(TWINS[name]))
    assert found is not None and (found.family, found.network) == (name.partition("/")[0], name)
    for other in TWINS:
        if other == name:
            pretrained._refuse_other(Path("w.pth"), other, found)
        else:
            with pytest.raises(UserError, match=rf"w\.pth looks like .*, and model\.name is {other}: set .*={name}"):
                pretrained._refuse_other(Path("w.pth"), other, found)


def test_other_projects_and_sizes_are_named() -> None:
    torchvision_vit = functools.partial(vit_twin.TorchvisionViT, 768, 12, 12, 14)
    assert identify.of_torch(shapes_of(torchvision_vit)).network == "vit/base"
    wide = functools.partial(vit_twin.TimmViT, 768, 12, 12, 7, patch=32)
    found = identify.of_torch(shapes_of(wide))
    assert (found.what, found.network) == ("timm's ViT of width 768, 12 blocks and patches of 32", "")
    deep = functools.partial(resnet_twin.ResNet, 10, (3, 4, 23, 3), bottleneck=True, n_channels=3)
    found = identify.of_torch(shapes_of(deep))
    assert (found.what, found.network) == ("torchvision's ResNet-101", "")
    assert identify.of_torch({"stages.0.blocks.0.conv_dw.weight": (96, 1, 7, 7)}).what == "timm's ConvNeXt"
    assert identify.of_torch({"something": (3,)}) is None


@pytest.mark.parametrize(
    ("make", "network"),
    [
        (keras.applications.EfficientNetB0, "efficientnet/b0"),
        (keras.applications.EfficientNetV2B0, "efficientnet_v2/b0"),
        (keras.applications.EfficientNetV2B2, "efficientnet_v2/b2"),
        (keras.applications.EfficientNetV2S, "efficientnet_v2/s"),
        (keras.applications.ConvNeXtSmall, "convnext/small"),
        (keras.applications.ResNet50, ""),
    ],
)
def test_networks_of_keras_are_recognized(make, network: str) -> None:
    with keras.device("meta"):
        layers = make(include_top=False, weights=None, input_shape=(64, 64, 3)).layers
    nested = [*layers, *(inner for layer in layers for inner in getattr(layer, "layers", ()))]
    found = identify.of_keras({layer.name: [tuple(w.shape) for w in layer.weights] for layer in nested})
    assert found is not None and found.network == network


@pytest.mark.parametrize(
    ("name", "twin", "words"),
    [
        ("resnet/18", "resnet/50", r"torchvision's ResNet-50, and model\.name is resnet/18: set model\.name=resnet/50"),
        ("efficientnet/b0", "efficientnet/b0_torch", r"set model\.name=efficientnet/b0_torch, or give keras"),
        ("vit/tiny", "resnet/18", r"ResNet-18, and model\.name is vit/tiny: .*or give timm's model\.safetensors"),
    ],
)
def test_wrong_file_is_answered_with_the_choices(name: str, twin: str, words: str, tmp_path: Path) -> None:
    torch.save(TWINS[twin]().state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=words) as caught:
        pretrained.load(embedding(name, 1)[0], tmp_path / "w.pth", name=name)
    assert "\n" not in str(caught.value)
