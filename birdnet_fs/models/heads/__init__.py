"""Heads: functions that turn a family's backbone into logits, by name in HEADS.

linear: one dense layer on the embedding.
sed: attention over time on the frames, with logits of every time step (sed.py).
cosine: scaled cosines between the embedding and a weight vector per class (cosine.py).
prototypes: distances between the embedding and a prototype per class, for few-shot networks (prototypes.py).
"""

from collections.abc import Callable

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone
from birdnet_fs.models.heads.cosine import CosineLogits, cosine_head
from birdnet_fs.models.heads.prototypes import PrototypeLogits, prototype_head
from birdnet_fs.models.heads.sed import sed_head

# the variable paths of a head start with one of these
WEIGHTS = ("logits/", "frame_hidden/", "frame_attention/", "frame_logits/")


def linear_head(backbone: Backbone, n_classes: int, dropout: float) -> keras.KerasTensor:
    """Dropout and one dense layer on the embedding.

    Args:
        backbone: Output of a family's `backbone`; only its embedding is used.
        n_classes: Width of the logits, 1 or more.
        dropout: Dropout rate in front of the dense layer, in [0, 1).

    Returns:
        Logits float32 [batch, n_classes].
    """
    x = layers.Dropout(dropout, name="dropout")(backbone.embedding)
    return layers.Dense(n_classes, dtype="float32", name="logits")(x)


HEADS: dict[str, Callable[..., keras.KerasTensor]] = {
    "linear": linear_head,
    "sed": sed_head,
    "cosine": cosine_head,
    "prototypes": prototype_head,
}


def embedding(model: keras.Model) -> keras.KerasTensor:
    """The pooled vector of a network: its layer "embedding"; with the head "sed" the mean of "frame_hidden" over time.

    Args:
        model: A network of `models.build`.

    Returns:
        Symbolic tensor [batch, width].
    """
    found = {layer.name: layer.output for layer in model.layers}
    if "embedding" in found:
        return found["embedding"]
    n_steps, width = found["frame_hidden"].shape[1:]
    x = layers.Reshape((n_steps, 1, width), name="frame_hidden_map")(found["frame_hidden"])
    return layers.GlobalAveragePooling2D(name="embedding")(x)


def logit_scale(model: keras.Model) -> float:
    """The factor by which a network multiplies its cosines or distances; 1 for the heads "linear" and "sed".

    Args:
        model: A network of `models.build`.

    Returns:
        The `scale` of its layer "logits", or 1.
    """
    head = model.get_layer("logits")
    return head.scale if isinstance(head, CosineLogits | PrototypeLogits) else 1.0
