"""Vision Transformer: features divided into patches of 16 x 16 cells, a class token, blocks of self-attention.

Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929; tiny and small are
of Touvron et al. 2021 (DeiT, table 1), https://arxiv.org/abs/2012.12877; dropout and stochastic depth as Steiner et
al. 2022, https://arxiv.org/abs/2106.10270. As published: LayerNorm (epsilon 1e-6) before each branch,
GELU, dropout after every layer but queries, keys and values. Ours: the features are standardized in front, without
learned parameters (raw decibels are large against what the blocks add to them), and an axis that is no multiple of
the patch is padded at its end with zeros, the mean of the standardized features. The frames are the patches of one
time step, averaged over the bands.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from birdnet_fs.models.blocks import Backbone, add_branch, mean_over_bands

SOURCE = "Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929"
MIN_SHAPE = (16, 16)  # (n_frames, n_mels): one patch
DROPOUT = 0.1
STOCHASTIC_DEPTH = 0.1  # probability to drop the last block's branches in training; that of the first is 0
EPSILON = 1e-6  # of LayerNorm
NORM_EPSILON, MOMENTUM = 1e-5, 0.9  # of the standardization, as torch's BatchNorm


@dataclass(frozen=True)
class Size:
    """One variant.

    Attributes:
        width: Width of a token.
        depth: Number of blocks.
        n_heads: Attention heads of a block.
        patch: Side of a patch, in frames and mels.
        expand: Width inside a block / width of a token.
    """

    width: int
    depth: int
    n_heads: int
    patch: int = 16
    expand: int = 4


VARIANTS = {
    "tiny": Size(width=192, depth=12, n_heads=3),
    "small": Size(width=384, depth=12, n_heads=6),
    "base": Size(width=768, depth=12, n_heads=12),
}


def backbone(variant: str, features: keras.KerasTensor) -> Backbone:
    """Build the backbone of a variant (a key of VARIANTS) on features [batch, n_frames, n_mels, n_channels]."""
    size = VARIANTS[variant]
    x = layers.BatchNormalization(center=False, scale=False, epsilon=NORM_EPSILON, momentum=MOMENTUM, name="input_bn")(
        features
    )
    missing = [-n % size.patch for n in x.shape[1:3]]
    if any(missing):
        x = layers.ZeroPadding2D(((0, missing[0]), (0, missing[1])), name="input_pad")(x)
    x = layers.Conv2D(size.width, size.patch, size.patch, kernel_initializer="lecun_normal", name="patches_conv")(x)
    grid = x.shape[1:3]
    x = layers.Reshape((grid[0] * grid[1], size.width), name="patches_tokens")(x)
    x = ClassTokenAndPositions(name="tokens")(x)
    x = layers.Dropout(DROPOUT, name="tokens_dropout")(x)
    for number in range(size.depth):
        drop = STOCHASTIC_DEPTH * number / max(1, size.depth - 1)
        x = _block(x, size, drop, f"block{number + 1}")
    x = layers.LayerNormalization(epsilon=EPSILON, name="top_norm")(x)
    patches = layers.Cropping1D((1, 0), name="top_patches")(x)
    patches = layers.Reshape((*grid, size.width), name="top_grid")(patches)
    x = layers.Cropping1D((0, grid[0] * grid[1]), name="top_class")(x)
    return Backbone(mean_over_bands(patches), layers.Reshape((size.width,), name="embedding")(x))


def _block(x: keras.KerasTensor, size: Size, drop: float, name: str) -> keras.KerasTensor:
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(
        size.n_heads, size.width // size.n_heads, kernel_initializer=_init(), name=f"{name}_attention"
    )(y, y)
    y = layers.Dropout(DROPOUT, name=f"{name}_attention_dropout")(y)
    x = add_branch(x, y, drop, f"{name}_attention")
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm2")(x)
    y = layers.Dense(size.width * size.expand, activation="gelu", kernel_initializer=_init(), name=f"{name}_expand")(y)
    y = layers.Dropout(DROPOUT, name=f"{name}_expand_dropout")(y)
    y = layers.Dense(size.width, kernel_initializer=_init(), name=f"{name}_project")(y)
    y = layers.Dropout(DROPOUT, name=f"{name}_project_dropout")(y)
    return add_branch(x, y, drop, f"{name}_project")


def _init() -> keras.initializers.Initializer:
    # as in DeiT; Keras' default would treat the kernel [width, n_heads, key_dim] as that of a convolution
    return keras.initializers.TruncatedNormal(stddev=0.02)


@keras.saving.register_keras_serializable("birdnet_fs")
class ClassTokenAndPositions(layers.Layer):
    """Prepend a learned class token and add a learned position to every token."""

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Create the class token [1, 1, width] and the positions [1, 1 + n, width], that of the class token first."""
        n, width = input_shape[1:]
        self.class_token = self.add_weight(shape=(1, 1, width), initializer=_init(), name="class_token")
        self.positions = self.add_weight(shape=(1, 1 + n, width), initializer=_init(), name="positions")

    def call(self, x: Any) -> Any:
        """Tokens [batch, n, width] -> [batch, 1 + n, width]."""
        # the class token is added to zeros, so that no tensor is repeated for a batch of unknown size
        first, others = self.positions[:, :1], self.positions[:, 1:]
        offsets = ops.concatenate([first + self.class_token, others], axis=1)
        return ops.pad(x, ((0, 0), (1, 0), (0, 0))) + offsets

    def compute_output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the input with one more token."""
        return (input_shape[0], input_shape[1] + 1, input_shape[2])


def adapt_weights(
    variant: str, stored: dict[str, np.ndarray], old_shape: tuple[int, int], new_shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """Adapt weights to features of another size: resize the positions to the new grid of patches.

    Args:
        variant: A key of VARIANTS.
        stored: Arrays by variable path of a network on features of `old_shape`; "tokens/positions" is
            [1, 1 + n_patches, width].
        old_shape: (n_frames, n_mels) of the stored network.
        new_shape: (n_frames, n_mels) of the new one.

    Returns:
        The arrays for `new_shape`; `stored` itself if the grids are equal.
    """
    patch = VARIANTS[variant].patch
    old, new = ((-(-shape[0] // patch), -(-shape[1] // patch)) for shape in (old_shape, new_shape))
    positions = stored.get("tokens/positions")
    if old == new or positions is None or positions.shape[:-1] != (1, 1 + old[0] * old[1]):
        return stored  # positions that do not fit are refused with the other tensors
    return {**stored, "tokens/positions": resize_positions(stored["tokens/positions"], old, new)}


def resize_positions(positions: np.ndarray, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> np.ndarray:
    """Interpolate learned positions to another grid of patches: bicubic, as in DeiT; the class token's is kept.

    Args:
        positions: [1, 1 + n_old, width], that of the class token first, then the patches row by row (time first).
        old_grid: (patches along time, patches along frequency) of `positions`.
        new_grid: (patches along time, patches along frequency) of the result.

    Returns:
        [1, 1 + n_new, width], of the dtype of `positions`.
    """
    first, patches = positions[:, :1], positions[0, 1:].reshape(*old_grid, -1)
    rows, columns = (_bicubic(old, new) for old, new in zip(old_grid, new_grid, strict=True))
    patches = np.einsum("io,jp,opw->ijw", rows, columns, patches).reshape(1, -1, patches.shape[-1])
    return np.concatenate([first, patches.astype(positions.dtype)], axis=1)


def _bicubic(old: int, new: int) -> np.ndarray:
    """Weights [new, old] of torch's bicubic interpolation (a = -.75, half-pixel centers, edges repeated)."""
    a = -0.75
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        cell = np.floor(centers).astype(int) + tap
        d = np.abs(centers - cell)
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        np.add.at(weights, (np.arange(new), cell.clip(0, old - 1)), np.where(d <= 1, near, far))
    return weights
