"""Parts that several families share: what a backbone returns, stochastic depth, LayerScale, padding as in torch.

Sources: Huang et al. 2016, "Deep Networks with Stochastic Depth", https://arxiv.org/abs/1603.09382; Touvron et al.
2021, "Going deeper with Image Transformers", section 2.1 (LayerScale), https://arxiv.org/abs/2103.17239.
"""

import re
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

N_LETTERS = 26


@dataclass(frozen=True)
class Backbone:
    """Outputs of a family's `backbone`, from which a head computes logits.

    Attributes:
        frames: [batch, n_steps, width], in order of time, pooled over the mel bands.
        embedding: [batch, width], the output of a layer named "embedding".
    """

    frames: keras.KerasTensor
    embedding: keras.KerasTensor


def block_name(stage: int, repeat: int) -> str:
    """Name of a block: its stage, then letters for its place in the stage.

    Args:
        stage: Number of the stage, from 1.
        repeat: Number of the block in its stage, from 0.

    Returns:
        The name, without "_".

    >>> block_name(2, 0), block_name(3, 26)
    ('block2a', 'block3aa')
    """
    more, last = divmod(repeat, N_LETTERS)
    return f"block{stage}{chr(ord('a') + more - 1) if more else ''}{chr(ord('a') + last)}"


def block_place(name: str) -> tuple[int, int] | None:
    """(stage from 1, repeat from 0) of a `block_name`; None for other names.

    >>> block_place("block3aa"), block_place("stem")
    ((3, 26), None)
    """
    found = re.fullmatch(r"block(\d+)([a-z]+)", name)
    if not found:
        return None
    repeat = 0
    for letter in found[2]:
        repeat = repeat * N_LETTERS + ord(letter) - ord("a") + 1
    return int(found[1]), repeat - 1


def mean_over_bands(x: keras.KerasTensor) -> keras.KerasTensor:
    """Mean of a convolutional map [batch, n_steps, n_bands, width] over its bands: [batch, n_steps, width]."""
    x = layers.AveragePooling2D((1, x.shape[2]), name="mean_over_bands")(x)
    return layers.Reshape((x.shape[1], x.shape[3]), name="frames")(x)


@keras.saving.register_keras_serializable("birdnet_fs")
class LayerScale(layers.Layer):
    """A learned factor for each channel, at the end of a residual branch: [..., width] -> [..., width].

    Args:
        initial: Initial value of all factors, small (1e-6 to 1e-4), so that a deep network starts as if shallow.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).
    """

    def __init__(self, initial: float, **settings: Any) -> None:
        super().__init__(**settings)
        self.initial = initial

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the factors [width]."""
        self.gamma = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial), name="gamma"
        )

    def call(self, x: Any) -> Any:
        """[..., width] -> [..., width]."""
        return x * self.gamma

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The shape of the input."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return {**super().get_config(), "initial": self.initial}


def add_branch(x: keras.KerasTensor, branch: keras.KerasTensor, drop: float, name: str) -> keras.KerasTensor:
    """Sum of a shortcut and a residual branch, with stochastic depth.

    In training the branch of a segment is dropped with probability `drop`, and divided by 1 - drop otherwise.

    Args:
        x: The shortcut [batch, ...].
        branch: Output of the block, of the same shape.
        drop: Probability in [0, 1); the published schedules increase it with the depth of the block.
        name: Name of the block, the prefix of the names of both layers.

    Returns:
        The sum, of the shape of `x`.
    """
    if drop > 0:
        per_segment = (None, *[1] * (len(x.shape) - 1))
        branch = layers.Dropout(drop, noise_shape=per_segment, name=f"{name}_stochastic_depth")(branch)
    return layers.Add(name=f"{name}_add")([x, branch])


def padded_as_torch(x: keras.KerasTensor, kernel: int, stride: int, name: str) -> tuple[keras.KerasTensor, str]:
    """Pad the input of a Keras convolution so that it computes torch's with padding=kernel // 2.

    Torch pads all sides equally; the padding "same" of Keras does so only at stride 1, and otherwise adds an odd zero
    at the end.

    Args:
        x: Input of the convolution [batch, n_steps, n_bands, n_channels].
        kernel: Side of the kernel, an odd number.
        stride: Stride of the convolution, 1 or more.
        name: Name of the convolution, the prefix of the name of the padding layer.

    Returns:
        (input of the Keras layer, its argument `padding`).
    """
    if stride == 1 or kernel == 1:
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"
