"""Build a network by name, select its inner outputs, and load one from a `.keras` file."""

import importlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.models import heads
from birdnet_fs.schema import networks


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
    trainable_mel: str = "none",
) -> keras.Model:
    """Build a network with random weights.

    Args:
        name: "family/variant", or a family alone for its first variant.
        input_shape: (n_frames, n_mels, n_channels) of the features, time first, channels last.
        n_classes: Width of the logits, 1 or more.
        dropout: Dropout rate in front of the last layer, in [0, 1). Default: 0.2.
        head: Key of `heads.HEADS`: "linear", "sed", "cosine" or "prototypes". Default: "linear".
        logit_scale: Factor of the cosines or distances of the heads "cosine" and "prototypes", above 0. Default: 30.
        distance: Distance of the head "prototypes": "euclidean" (squared), "cosine" or "learned". Default: "euclidean".
        unknown: Whether the last class of the head "prototypes" is "none of the others". Default: False.
        channels: Channels of each block, for families with this option. Default: (), those of the variant.
        block_dropout: Rate of spatial dropout in a block, and of dropout in front of the embedding, in [0, 1), for
            families with this option. Default: 0.1.
        trainable_mel: "log" or "linear", a mel matrix as the first layer, which reads power spectra [n_frames, n_bins,
            1], for families with this option; or "none". Default: "none".

    Returns:
        A Functional Keras model: features [batch, n_frames, n_mels, n_channels] -> logits float32 [batch, n_classes].

    Raises:
        UserError: Unknown name or head, features of a wrong layout or too small for the network, no class, or an option
            that the network does not support.
    """
    name = networks.resolve(name)
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise UserError(
            "input_shape must be three whole numbers (n_frames, n_mels, n_channels), each 1 or more. "
            f"Received: {input_shape!r}"
        )
    module = family(name)
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
    options = {"channels": tuple(channels), "block_dropout": block_dropout, "trainable_mel": trainable_mel}
    networks.check_options(name, **options)
    settings: dict[str, Any] = {}
    if head in ("cosine", "prototypes"):
        settings = {"scale": logit_scale}
    if head == "prototypes":
        settings |= {"distance": distance, "unknown": unknown}
    features = keras.Input(shape, name="features")
    backbone = module.backbone(name.partition("/")[2], features, **networks.backbone_options(name, **options))
    logits = heads.HEADS[head](backbone, n_classes, dropout, **settings)
    return keras.Model(features, logits, name=name.replace("/", "_"))


def family(name: str) -> Any:
    """The module of a network's family, with its SOURCE (paper, URL), MIN_SHAPE, VARIANTS and `backbone`."""
    return importlib.import_module(f"birdnet_fs.models.{networks.resolve(name).partition('/')[0]}")


def with_outputs(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """A network with other outputs, which shares its weights.

    Args:
        model: A network of `build`.
        names: Layers: "logits", "embedding" [batch, width] (every head), "frame_logits" [batch, n_steps, n_classes]
            (head "sed"), or any other layer of the network.

    Returns:
        A Functional model with one output for one name, and a list of outputs in the order of several names.

    Raises:
        UserError: There is no such layer.
    """
    found = {layer.name: layer.output for layer in model.layers}
    if "embedding" in names:
        found["embedding"] = heads.embedding(model)
    for name in names:
        if name not in found:
            hint = " Build it with head='sed'." if name == "frame_logits" else nearest(name, found)
            raise UserError(f"{model.name} has no layer of this name.{hint} Received: {name!r}")
    # in a quantized network "NAME_range" holds the rounded output of the layer NAME (quantization/convert.py)
    found |= {name.removesuffix("_range"): tensor for name, tensor in found.items() if name.endswith("_range")}
    outputs = [found[name] for name in names]
    return keras.Model(model.input, outputs[0] if len(outputs) == 1 else outputs, name=model.name)


def load_keras(path: Path | str) -> keras.Model:
    """Load a `.keras` file of a network with layers of this package; no code in it is executed.

    Args:
        path: File that `keras.Model.save` wrote.

    Returns:
        The network, on the Keras backend in use and not compiled: call `compile` before training it with `fit`.

    Raises:
        UserError: There is no such file, it is no `.keras` file, it is damaged, or it holds unknown objects.
    """
    if not Path(path).is_file():
        raise UserError(f"A .keras file was expected at {path}; there is no such file.")
    # Keras ignores safe_mode in files of other kinds
    if Path(path).suffix != ".keras" or not zipfile.is_zipfile(path):
        raise UserError(f'{path} is not a .keras file; save the model with model.save("NAME.keras").')
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises what its parsers raise: ValueError, TypeError, KeyError, BadZipFile, ...
        reason = [type(error).__name__, *str(error).strip().splitlines()[:1]]
        raise UserError(
            f"{path} cannot be loaded as a .keras file ({': '.join(reason)}); save the model again with model.save."
        ) from None
