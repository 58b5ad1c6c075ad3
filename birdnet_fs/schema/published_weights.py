"""Published weights that networks can start from: which file fits which network, and which project publishes it.

Nothing is downloaded: the user gives the file with `model.weights=FILE`; models/pretrained reads it. Files are listed
under the name that their project gives them, and may have another one with the same suffix.
"""

from typing import NamedTuple

from birdnet_fs.schema.networks import resolve


class Published(NamedTuple):
    """A published file.

    Attributes:
        network: Network here, "family/variant".
        project: Project that publishes it.
        file: Name of the file there.
        trained_on: Data set of its training.
    """

    network: str
    project: str
    file: str
    trained_on: str = "ImageNet"


_TIMM = "model.safetensors or pytorch_model.bin of"
PUBLISHED: tuple[Published, ...] = (
    Published("efficientnet/b0", "keras.applications", "efficientnetb0_notop.h5"),
    Published("efficientnet/b0_torch", "torchvision", "efficientnet_b0_rwightman-7f5810bc.pth"),
    *(
        Published(f"efficientnet_v2/{v}", "keras.applications", f"efficientnetv2-{v}_notop.h5")
        for v in ("b0", "b1", "b2", "b3", "s")
    ),
    Published("efficientnet_v2/s_torch", "torchvision", "efficientnet_v2_s-dd5fe13b.pth"),
    Published("resnet/18", "torchvision", "resnet18-f37072fd.pth"),
    Published("resnet/34", "torchvision", "resnet34-b627a593.pth"),
    Published("resnet/50", "torchvision", "resnet50-11ad3fa6.pth or resnet50-0676ba61.pth"),
    Published("convnext/tiny", "torchvision", "convnext_tiny-983f1562.pth"),
    Published("convnext/small", "torchvision", "convnext_small-0c510722.pth"),
    Published("convnext/base", "torchvision", "convnext_base-6075fbad.pth"),
    Published("convnext/large", "torchvision", "convnext_large-ea097f82.pth"),
    *(
        Published(f"convnext/{v}", "keras.applications", f"convnext_{v}_notop.h5")
        for v in ("tiny", "small", "base", "large")
    ),
    Published("vit/tiny", "timm", f"{_TIMM} vit_tiny_patch16_224 or deit_tiny_patch16_224"),
    Published("vit/small", "timm", f"{_TIMM} vit_small_patch16_224 or deit_small_patch16_224"),
    Published("vit/base", "timm", f"{_TIMM} vit_base_patch16_224 or deit_base_patch16_224"),
    Published("vit/base", "torchvision", "vit_b_16-c867db91.pth"),
    Published("vit/base", "keras_hub", "model.weights.h5 of the preset vit_base_patch16_224_imagenet"),
    Published("panns/cnn14", "PANNs", "Cnn14_mAP=0.431.pth", "AudioSet"),
    Published("panns/mobilenet_v1", "PANNs", "MobileNetV1_mAP=0.389.pth", "AudioSet"),
    Published("panns/mobilenet_v2", "PANNs", "MobileNetV2_mAP=0.383.pth", "AudioSet"),
)


def wanted(name: str) -> str:
    """Name the files of published weights of a network.

    Args:
        name: Network as "family/variant", or "family" for its first variant.

    Returns:
        A phrase, as "torchvision's resnet18-f37072fd.pth (ImageNet), or a run folder of resnet/18".

    Raises:
        UserError: There is no such network.

    >>> wanted("cnn/small")
    'a run folder of cnn/small (none are published)'
    """
    name = resolve(name)
    rows = [row for row in PUBLISHED if row.network == name]
    files = [f"{_of(row.project)} {row.file} ({row.trained_on})" for row in rows]
    own = f"a run folder of {name}"
    return f"{'; '.join(files)}; or {own}" if files else f"{own} (none are published)"


def _of(project: str) -> str:
    return f"{project}'" if project.endswith("s") else f"{project}'s"
