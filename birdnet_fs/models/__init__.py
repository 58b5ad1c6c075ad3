"""The networks: one family per file, its sizes in one cited table; `build("family/variant", ...)` makes one.

Every network takes features [batch, n_frames, n_mels, n_channels] (input name "features") and gives float32 logits
[batch, n_classes] from a layer named "logits"; `with_outputs` reaches its pooled vector ("embedding") and more.
A family makes a backbone (`heads.Backbone`: frames and embedding), a head of heads.py makes logits of it.
Layer names are the same in every build, because a run folder finds its weights by variable path.

A new family is one file named as the family (holding SOURCE, MIN_SHAPE, VARIANTS and `backbone`) and one row below.
"""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from birdnet_fs.core.errors import UserError, nearest

if TYPE_CHECKING:
    import keras

# family = file -> its variants, the default first; kept here so that a name is checked without importing Keras
FAMILIES: dict[str, tuple[str, ...]] = {
    "cnn": ("small", "tiny", "large"),
    "efficientnet": ("b0",),
    "efficientnet_v2": ("b0", "b1", "b2", "b3", "s"),
    "tilenet": ("v2", "v4", "v5"),
    "panns": ("cnn14", "mobilenet_v1", "mobilenet_v2"),
    "prototypical": ("v2", "v2_conv_gate", "v2_wide_conv_gate", "v1"),
    "rnn": ("lstm", "gru", "bilstm", "bigru", "lstm3"),
    "vit": ("tiny", "small", "base"),
    "resnet": ("18", "18_max_pool_0", "18_max_pool_2"),
    "convnext": ("tiny",),
    "ghost_efficientnet_v2": ("0.75", "1.0", "0.75_depth_0.5"),
}


def names() -> list[str]:
    """Every network there is, as "family/variant".

    >>> names()[:2]
    ['cnn/small', 'cnn/tiny']
    """
    return [f"{family}/{variant}" for family, variants in FAMILIES.items() for variant in variants]


def resolve(name: str) -> str:
    """The full "family/variant" of `name`; a family alone stands for its first variant.

    Raises:
        UserError: No such network; the nearest name is given.

    >>> resolve("efficientnet_v2")
    'efficientnet_v2/b0'
    """
    family, slash, _ = name.partition("/")
    if not slash and family in FAMILIES:
        return f"{family}/{FAMILIES[family][0]}"
    if name in names():
        return name
    known = [f"{family}/{variant}" for variant in FAMILIES[family]] if family in FAMILIES else [*names(), *FAMILIES]
    raise UserError(
        f"model.name must be one of {', '.join(names())}.{nearest(name, known) or nearest(name, names())} "
        f"Received: {name!r}"
    )


def family(name: str) -> Any:
    """The module of a network's family, which holds its SOURCE (paper, URL), MIN_SHAPE and VARIANTS."""
    return importlib.import_module(f"birdnet_fs.models.{resolve(name).partition('/')[0]}")


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
) -> "keras.Model":
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
        channels: Of the blocks of a network of the family "prototypical", as many as it has; () = the variant's own.
        block_dropout: Of "prototypical/v2": share of the maps dropped in a block, and of the values in front of the
            embedding, in [0, 1).

    Returns:
        A Functional Keras model: features [batch, n_frames, n_mels, n_channels] -> logits float32 [batch, n_classes].

    Raises:
        UserError: Unknown name or head, features of a wrong layout or too small for the network, no class, or channels
            that the network cannot have.
    """
    name = resolve(name)
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
    import keras

    from birdnet_fs.models import heads

    if head not in heads.HEADS:
        raise UserError(f"head must be one of {', '.join(heads.HEADS)}.{nearest(head, heads.HEADS)} Received: {head!r}")
    settings: dict[str, Any] = {}
    if head in ("cosine", "prototypes"):
        settings = {"scale": logit_scale}
    if head == "prototypes":
        settings |= {"distance": distance, "unknown": unknown}
    features = keras.Input(shape, name="features")
    own: dict[str, Any] = {}  # what only the family "prototypical" has
    if name.startswith("prototypical/"):
        own = {"channels": tuple(channels), "block_dropout": block_dropout}
    backbone = module.backbone(name.partition("/")[2], features, **own)
    logits = heads.HEADS[head](backbone, n_classes, dropout, **settings)
    return keras.Model(features, logits, name=name.replace("/", "_"))


def with_outputs(model: "keras.Model", names: Sequence[str]) -> "keras.Model":
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
    import keras

    from birdnet_fs.models import heads

    found = {layer.name: layer.output for layer in model.layers}
    if "embedding" in names:
        found["embedding"] = heads.embedding(model)
    for name in names:
        if name not in found:
            hint = " Build it with head='sed'." if name == "frame_logits" else nearest(name, found)
            raise UserError(f"{model.name} has no layer of this name.{hint} Received: {name!r}")
    # of a quantized network what is rounded, under the name of the layer whose result it is (quantized.py)
    found |= {name.removesuffix("_range"): tensor for name, tensor in found.items() if name.endswith("_range")}
    outputs = [found[name] for name in names]
    return keras.Model(model.input, outputs[0] if len(outputs) == 1 else outputs, name=model.name)
