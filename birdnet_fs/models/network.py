"""Build a network by name, reach its inner outputs, and load one that Keras stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.models import heads, registry


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    n_classes: int,
    dropout: float = 0.2,
    head: str = "linear",
    logit_scale: float = 30.0,
    distance: str = "euclidean",
    unknown: bool = False,
    channels: Sequence[int] = (),
    block_dropout: float = 0.1,
) -> keras.Model:
    """A network with fresh random weights.

    Args:
        name: "family/variant", or a family alone for its first variant.
        input_shape: (n_frames, n_mels, n_channels) of the features, time first, channels last.
        n_classes: Width of the logits, 1 or more.
        dropout: Share of the values dropped in front of the last layer while training, in [0, 1).
        head: What makes logits of the backbone, a key of `heads.HEADS`: "linear", "sed", "cosine" or "prototypes".
        logit_scale: What the heads "cosine" and "prototypes" multiply cosines or distances by, above 0.
        distance: Of the head "prototypes": "euclidean" (squared), "cosine" or "learned".
        unknown: With the head "prototypes" the last class is "none of the others".
        channels: Channels of the blocks, for families with this option, as many as the network has blocks. Default: (),
            the variant's own.
        block_dropout: For families with this option: share of the maps dropped in a block, and of the values in front
            of the embedding, in [0, 1). Default: 0.1.

    Returns:
        A Functional Keras model: features [batch, n_frames, n_mels, n_channels] -> logits float32 [batch, n_classes].

    Raises:
        UserError: Unknown name or head, features of a wrong layout or too small for the network, no class, or channels
            that the network cannot have.
    """
    name = registry.resolve(name)
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise UserError(
            "input_shape must be three whole numbers (n_frames, n_mels, n_channels), each 1 or more. "
            f"Received: {input_shape!r}"
        )
    module = registry.family(name)
    if shape[0] < module.MIN_SHAPE[0] or shape[1] < module.MIN_SHAPE[1]:
        raise UserError(
            f"{name} needs features of at least {module.MIN_SHAPE[0]} frames x {module.MIN_SHAPE[1]} mels "
            f"(input_shape is (n_frames, n_mels, n_channels)); use a longer segment_s, a shorter hop_length, "
            f"more n_mels or another model. Received: {shape}"
        )
    if n_classes < 1:
        raise UserError(f"n_classes must be 1 or more; are there labels in the training data? Received: {n_classes}")
    if head not in heads.HEADS:
        raise UserError(f"head must be one of {', '.join(heads.HEADS)}.{nearest(head, heads.HEADS)} Received: {head!r}")
    settings: dict[str, Any] = {}
    if head in ("cosine", "prototypes"):
        settings = {"scale": logit_scale}
    if head == "prototypes":
        settings |= {"distance": distance, "unknown": unknown}
    features = keras.Input(shape, name="features")
    options = registry.backbone_options(name, channels=tuple(channels), block_dropout=block_dropout)
    backbone = module.backbone(name.partition("/")[2], features, **options)
    logits = heads.HEADS[head](backbone, n_classes, dropout, **settings)
    return keras.Model(features, logits, name=name.replace("/", "_"))


def with_outputs(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """The same network, weights shared, giving what the named layers give.

    Args:
        model: What `build` gave.
        names: Layers: "logits", "embedding" [batch, width] (every head), "frame_logits" [batch, n_steps, n_classes]
            (head "sed"), or any other of the network.

    Returns:
        A Functional model: one name gives that output, several give a list in their order.

    Raises:
        UserError: No such layer.
    """
    found = {layer.name: layer.output for layer in model.layers}
    if "embedding" in names:
        found["embedding"] = heads.embedding(model)
    for name in names:
        if name not in found:
            hint = " Build it with head='sed'." if name == "frame_logits" else nearest(name, found)
            raise UserError(f"{model.name} has no layer of this name.{hint} Received: {name!r}")
    # of a quantized network the rounded tensor, under the name of the layer that it rounds (quantization/convert.py)
    found |= {name.removesuffix("_range"): tensor for name, tensor in found.items() if name.endswith("_range")}
    outputs = [found[name] for name in names]
    return keras.Model(model.input, outputs[0] if len(outputs) == 1 else outputs, name=model.name)


def load_keras(path: Path | str) -> keras.Model:
    """Open a `.keras` file of a network of this package, its own layers included; nothing in it is executed.

    Args:
        path: The file, as `keras.Model.save` writes it.

    Returns:
        The model, on the Keras backend in use.

    Raises:
        UserError: There is no such file, it is damaged, or it holds objects that are not known here.
    """
    if not Path(path).is_file():
        raise UserError(f"A .keras file was expected at {path}; there is no such file.")
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras raises what its parsers raise: ValueError, TypeError, KeyError, BadZipFile, ...
        reason = str(error).strip().splitlines()
        raise UserError(
            f"{path} cannot be opened as a .keras file ({type(error).__name__}: {reason[0] if reason else 'no message'})"
            "; save the model again with model.save."
        ) from None
