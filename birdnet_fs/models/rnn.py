"""Recurrent networks over the frames of a segment: LSTM or GRU, in one or both directions.

Source: Hochreiter, Schmidhuber 1997, "Long Short-Term Memory", https://doi.org/10.1162/neco.1997.9.8.1735; Cho et
al. 2014, https://arxiv.org/abs/1406.1078 (GRU, as in cuDNN and torch: the reset gate after the matrix product);
Schuster, Paliwal 1997, https://doi.org/10.1109/78.650093 (both directions). The sizes were chosen for
BirdCLEF 2025: frames of 128 mels, two or three layers, 256 -> 128 units, dropout .3 between them.

Ours: a BatchNorm of every band in front, as in PANNs (https://arxiv.org/abs/1912.10211), because raw decibels would
saturate every gate; and an embedding that is the mean plus the maximum of the last layer over time, not its last
state: a label holds for the whole segment, and the last of 256 states retains little of a call at the start.
"""

from dataclasses import dataclass

import keras
from keras import layers

from birdnet_fs.models.blocks import Backbone

SOURCE = "Hochreiter & Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735; Cho et al. 2014 (GRU)"
MIN_SHAPE = (1, 1)  # (n_frames, n_mels): no halving
DROPOUT = 0.3  # between the layers, drawn for every frame as in torch.nn.LSTM
EPSILON, MOMENTUM = 1e-5, 0.9
CELLS = {"lstm": layers.LSTM, "gru": layers.GRU}


@dataclass(frozen=True)
class Size:
    """One variant.

    Attributes:
        cell: A key of CELLS.
        units: Units of each layer, in each direction.
        both_directions: Whether the layers also run from the last frame to the first, with concatenated outputs.
    """

    cell: str
    units: tuple[int, ...] = (256, 128)
    both_directions: bool = False


VARIANTS = {
    "lstm": Size("lstm"),
    "gru": Size("gru"),
    "bilstm": Size("lstm", both_directions=True),
    "bigru": Size("gru", both_directions=True),
    "lstm3": Size("lstm", units=(256, 256, 128)),
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels].

    Features may be raw decibels. The channels of a frame are concatenated: [batch, n_frames, n_mels * n_channels].
    """
    size = VARIANTS[variant]
    n_frames, n_mels, n_channels = features.shape[1:]
    x = layers.Reshape((n_frames, n_mels * n_channels), name="input_bands")(features)
    x = layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, name="input_bn")(x)
    for number, units in enumerate(size.units, 1):
        name = f"rnn{number}"
        if number > 1:
            x = layers.Dropout(DROPOUT, name=f"{name}_dropout")(x)
        # activations stay Keras' defaults, those of the fused kernels of torch, cuDNN and TensorFlow
        layer = CELLS[size.cell](units, return_sequences=True, name=f"{name}_{size.cell}")
        x = layers.Bidirectional(layer, name=f"{name}_both")(x) if size.both_directions else layer(x)
    mean, highest = layers.GlobalAveragePooling1D(name="mean")(x), layers.GlobalMaxPooling1D(name="max")(x)
    return Backbone(frames=x, embedding=layers.Add(name="embedding")([mean, highest]))
