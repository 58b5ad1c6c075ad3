"""PANNs' published AudioSet weights (.pth): map their tensors to variable paths and axis orders of this package.

Source: the checkpoints of https://zenodo.org/records/3987831 (Cnn14_mAP=0.431.pth, MobileNetV1_mAP=0.389.pth,
MobileNetV2_mAP=0.383.pth) and the modules that wrote them (https://github.com/qiuqiangkong/audioset_tagging_cnn,
pytorch/models.py). A checkpoint also holds the kernels of its front-end, which the package computes itself (preset
"panns"), and the state of the sampler, a few NumPy arrays; both are ignored. Nothing in a file is executed
(torch_file.py).
"""

import re
from collections.abc import Iterator

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.panns import VARIANTS
from birdnet_fs.models.pretrained.torch_file import State

NOT_OURS = re.compile(r"(spectrogram_extractor|logmel_extractor)\..*|.*\.num_batches_tracked")
HEAD = ("fc_audioset.weight", "fc_audioset.bias")  # of 527 classes
NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
DENSE = {"weight": "kernel", "bias": "bias"}
# index in a block's Sequential -> our layer; the indices between are pooling and ReLU
SEPARABLE = {0: "depthwise_conv", 2: "depthwise_bn", 4: "pointwise_conv", 5: "pointwise_bn"}
INVERTED = {0: "depthwise_conv", 2: "depthwise_bn", 4: "project_conv", 5: "project_bn"}
EXPANDED = {
    0: "expand_conv",
    1: "expand_bn",
    3: "depthwise_conv",
    5: "depthwise_bn",
    7: "project_conv",
    8: "project_bn",
}
MOST_NAMED = 4  # most names of one kind in a message


def mapped(state: State, variant: str) -> dict[str, np.ndarray]:
    """Map the tensors of a checkpoint to the variables of a network.

    The class layer of the checkpoint, if any, is mapped to "logits"; its number of classes is not checked.

    Args:
        state: Output of `torch_file.read`.
        variant: A key of `panns.VARIANTS`.

    Returns:
        Variable path -> array in Keras' order of axes [...], a view without a copy.

    Raises:
        UserError: Tensors are missing or unexpected; the message names them.
    """
    paths = dict(_names(variant))
    faults = {
        "missing": [name for name in paths if name not in state and name not in HEAD],
        "unexpected": [name for name in state if name not in paths and not NOT_OURS.fullmatch(name)],
    }
    if any(faults.values()):
        found = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in faults.items() if names)
        raise UserError(f"model.weights must be the published checkpoint of panns/{variant}. Received tensors {found}.")
    return {path: _as_keras(state[name], path) for name, path in paths.items() if name in state}


def _names(variant: str) -> Iterator[tuple[str, str]]:
    """Torch's name and our path of every variable."""
    for theirs, ours in _layers(variant):
        parts = NORM if ours.endswith("bn") or ours == "bn0" else DENSE
        for part, variable in parts.items():
            if not (ours.endswith("conv") and part == "bias"):
                yield f"{theirs}.{part}", f"{ours}/{variable}"


def _layers(variant: str) -> Iterator[tuple[str, str]]:
    """Torch's and our name of every layer with weights."""
    size, number = VARIANTS[variant], 0
    yield from (("bn0", "bn0"), ("fc1", "embedding"), ("fc_audioset", "logits"))
    if size.stem:
        yield from (("features.0.0", "stem_conv"), ("features.0.2", "stem_bn"))
    for stage in size.stages:
        for _ in range(stage.n_blocks):
            number += 1
            if stage.block == "double":
                for i in (1, 2):
                    yield f"conv_block{number}.conv{i}", f"block{number}_{i}_conv"
                    yield f"conv_block{number}.bn{i}", f"block{number}_{i}_bn"
                continue
            inverted = EXPANDED if stage.expand > 1 else INVERTED
            block = f"features.{number}" + ("" if stage.block == "separable" else ".conv")
            for place, ours in (SEPARABLE if stage.block == "separable" else inverted).items():
                yield f"{block}.{place}", f"block{number}_{ours}"
    if size.top:
        yield from ((f"features.{number + 1}.0", "top_conv"), (f"features.{number + 1}.1", "top_bn"))


def _as_keras(value: np.ndarray, path: str) -> np.ndarray:
    """[out, in, height, width] -> [height, width, in, out]; depthwise [width, 1, ...] -> [..., width, 1]; dense: T."""
    if value.ndim == 4:
        return value.transpose((2, 3, 0, 1) if "_depthwise_" in path else (2, 3, 1, 0))
    return value.T


def _some(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
