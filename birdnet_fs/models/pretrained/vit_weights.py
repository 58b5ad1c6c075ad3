"""Weights of Vision Transformers: timm's (DeiT's too), torchvision's and keras_hub's, mapped to the variables here.

All three compute what models/vit.py does: a class token, learned positions, LayerNorm (epsilon 1e-6) before each
branch, GELU, and the class token as embedding. They differ in names and in how queries, keys and values are stored:
torch has them in one matrix [3 * width, width], in this order. Positions of another grid are interpolated
(`vit.resize_positions`), as 14 x 14 patches of an image of 224 x 224 to 16 x 16 of features of 256 x 256; the position
of the class token is kept.

The standardization in front of the network (`input_bn`) becomes the identity: published networks expect images of about
mean 0 and deviation 1, which frontend.normalize=z_score gives. In training it follows the features, as in any network.
Images have three channels; the patch kernel of each of n channels is the sum of the three divided by n, so that n equal
channels give the tokens of the published network for a gray image.
"""

import re
from collections.abc import Iterator, Mapping

import keras
import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.vit import NORM_EPSILON, VARIANTS, resize_positions

Values = dict[str, np.ndarray]
NORM, DENSE = {"weight": "gamma", "bias": "beta"}, {"weight": "kernel", "bias": "bias"}
QKV = ("query", "key", "value")
HEADS = re.compile(r"(head|heads\.head|pre_logits\.fc|heads\.pre_logits)\.(weight|bias)")
# module of timm, and of torchvision, inside a block -> our layer; [] for the matrix of queries, keys and values
TIMM = {"norm1": "norm1", "attn.proj": "attention", "norm2": "norm2", "mlp.fc1": "expand", "mlp.fc2": "project"}
TORCHVISION = {"ln_1": "norm1", "self_attention.out_proj": "attention", "ln_2": "norm2"}
TORCHVISION |= {"mlp.0": "expand", "mlp.3": "project", "mlp.linear_1": "expand", "mlp.linear_2": "project"}
KERAS_HUB = {"ln_1": "norm1", "ln_2": "norm2", "mlp/dense_1": "expand", "mlp/dense_2": "project"}
KERAS_HUB_HEAD = "output_dense"
# tensors of networks that compute something else -> the difference
OTHERWISE = {
    r"dist_token": "it has a second token for distillation (DeiT distilled)",
    r"fc_norm\.weight": "it reads the mean of the patches, not the class token",
    r"reg_token": "it has register tokens",
    r"blocks\.0\.ls1\.gamma": "its branches end in LayerScale (DeiT III, DINOv2)",
    r"norm_pre\.weight": "it has a LayerNorm in front of the blocks (CLIP)",
    r"blocks\.0\.attn\.(rel_pos_bias\S*|q_bias|relative_position\S*)": "it has relative positions (BEiT)",
    r"blocks\.0\.attn\.q_norm\.weight": "it normalizes queries and keys",
}


def mapped_torch(model: keras.Model, variant: str, state: Mapping[str, np.ndarray]) -> tuple[Values, list[str]]:
    """Map the tensors of timm's or torchvision's state dict to the variables of a network.

    Args:
        model: The network.
        variant: A key of `vit.VARIANTS`.
        state: Output of `torch_file.read`.

    Returns:
        (variable path -> array in Keras' order of axes [...], names of tensors without a counterpart).

    Raises:
        UserError: The file is of a network that computes something else, or its positions are no square grid.
    """
    for pattern, difference in OTHERWISE.items():
        if any(re.fullmatch(pattern, name) for name in state):
            raise UserError(
                f"The weights are of a Vision Transformer that differs from vit/{variant}: {difference}. Choose a file "
                "without it (docs/weights.md)."
            )
    n_heads = VARIANTS[variant].n_heads
    values: Values = {}
    used: set[str] = set()
    for theirs, ours in _torch_names(state):
        if theirs not in state:
            continue
        used.add(theirs)
        array = state[theirs]
        if not ours.startswith("block"):
            values[ours] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        elif ours.endswith("/qkv"):
            for part, third in zip(QKV, np.split(array, 3) if len(array) % 3 == 0 else (array,) * 3, strict=True):
                kind = "kernel" if array.ndim == 2 else "bias"
                values[f"{ours.removesuffix('/qkv')}/{part}/{kind}"] = _of_heads(third.T, n_heads)
        elif ours.endswith("attention_output/kernel"):
            values[ours] = _to_heads(array.T, n_heads)
        else:
            values[ours] = array.T
    return _adapted(model, variant, values), [name for name in state if name not in used and not HEADS.fullmatch(name)]


def mapped_keras_hub(
    model: keras.Model, variant: str, stored: Mapping[str, list[np.ndarray]]
) -> tuple[Values, list[str]]:
    """Map the arrays of keras_hub's ViTBackbone to the variables of a network.

    Args:
        model: The network.
        variant: A key of `vit.VARIANTS`.
        stored: Output of `keras_h5.read`.

    Returns:
        (variable path -> array [...], layers of the file without a counterpart).

    Raises:
        UserError: The positions are no square grid.
    """
    stored = {name.removeprefix("vi_t_backbone/"): arrays for name, arrays in stored.items()}
    values: Values = {}
    used: set[str] = set()
    for theirs, ours in _keras_hub_names(stored):
        if len(stored.get(theirs, ())) == len(ours):
            used.add(theirs)
            values |= dict(zip(ours, stored[theirs], strict=True))
    if "tokens/positions" in values:
        values["tokens/positions"] = values["tokens/positions"][None]
    return _adapted(model, variant, values), [name for name in stored if name not in used | {KERAS_HUB_HEAD}]


def _torch_names(state: Mapping[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Name of every tensor there, and path of its variable here; ".../qkv" for queries, keys and values."""
    if "class_token" in state:
        numbers = {
            int(found[1]) for name in state if (found := re.match(r"encoder\.layers\.encoder_layer_(\d+)\.", name))
        }
        yield from {"class_token": "tokens/class_token", "encoder.pos_embedding": "tokens/positions"}.items()
        patches, norm, block, parts = "conv_proj", "encoder.ln", "encoder.layers.encoder_layer_{}", TORCHVISION
        joined = {"self_attention.in_proj_weight": "qkv", "self_attention.in_proj_bias": "qkv"}
    else:
        numbers = {int(found[1]) for name in state if (found := re.match(r"blocks\.(\d+)\.", name))}
        yield from {"cls_token": "tokens/class_token", "pos_embed": "tokens/positions"}.items()
        patches, norm, block, parts = "patch_embed.proj", "norm", "blocks.{}", TIMM
        joined = {"attn.qkv.weight": "qkv", "attn.qkv.bias": "qkv"}
    yield from ((f"{patches}.{theirs}", f"patches_conv/{ours}") for theirs, ours in DENSE.items())
    yield from ((f"{norm}.{theirs}", f"top_norm/{ours}") for theirs, ours in NORM.items())
    for number in sorted(numbers):
        name = f"block{number + 1}"
        yield from ((f"{block.format(number)}.{theirs}", f"{name}_attention/{ours}") for theirs, ours in joined.items())
        for theirs, ours in parts.items():
            layer = f"{name}_attention/attention_output" if ours == "attention" else f"{name}_{ours}"
            for tensor, variable in (NORM if ours.startswith("norm") else DENSE).items():
                yield f"{block.format(number)}.{theirs}.{tensor}", f"{layer}/{variable}"


def _keras_hub_names(stored: Mapping[str, object]) -> Iterator[tuple[str, list[str]]]:
    """Name of every layer there, and paths of its variables here."""
    front, encoder = "vit_patching_and_embedding", "vit_encoder"
    yield front, ["tokens/class_token"]
    yield f"{front}/patch_embedding", ["patches_conv/kernel", "patches_conv/bias"]
    yield f"{front}/position_embedding", ["tokens/positions"]
    yield f"{encoder}/ln", ["top_norm/gamma", "top_norm/beta"]
    numbers = {int(found[1]) for name in stored if (found := re.match(rf"{encoder}/transformer_block_(\d+)/", name))}
    for number in sorted(numbers):
        block = f"{encoder}/transformer_block_{number}"
        for part in (*QKV, "attention_output"):
            yield f"{block}/mha/{part}", [f"block{number}_attention/{part}/{v}" for v in ("kernel", "bias")]
        for theirs, ours in KERAS_HUB.items():
            variables = (NORM if ours.startswith("norm") else DENSE).values()
            yield f"{block}/{theirs}", [f"block{number}_{ours}/{variable}" for variable in variables]


def _of_heads(array: np.ndarray, n_heads: int) -> np.ndarray:
    """[..., width] -> [..., n_heads, width / n_heads]; as it is where the width is no multiple."""
    width = array.shape[-1]
    return array if width % n_heads else array.reshape(*array.shape[:-1], n_heads, width // n_heads)


def _to_heads(array: np.ndarray, n_heads: int) -> np.ndarray:
    """[width, n] -> [n_heads, width / n_heads, n]; as it is where the width is no multiple."""
    width = array.shape[0]
    return array if width % n_heads else array.reshape(n_heads, width // n_heads, *array.shape[1:])


def _adapted(model: keras.Model, variant: str, values: Values) -> Values:
    """Fit positions and patch kernel to the features of a network, and add the standardization in front."""
    n_frames, n_mels, n_channels = model.input_shape[1:]
    patch = VARIANTS[variant].patch
    kernel, positions = values.get("patches_conv/kernel"), values.get("tokens/positions")
    if kernel is not None and kernel.ndim == 4 and kernel.shape[2] == 3 != n_channels:
        total = kernel.sum(2, keepdims=True) / np.float32(n_channels)
        values["patches_conv/kernel"] = total.repeat(n_channels, axis=2)
    if positions is not None and positions.ndim == 3:
        n_patches = positions.shape[1] - 1
        side = round(max(n_patches, 0) ** 0.5)
        if n_patches < 1 or side * side != n_patches:
            raise UserError(
                "The weights must have one position for the class token and those of a square grid of patches, as "
                f"1 + 14 x 14. Received: {positions.shape[1]} positions"
            )
        grid = (-(-n_frames // patch), -(-n_mels // patch))
        if grid != (side, side):
            values["tokens/positions"] = resize_positions(positions, (side, side), grid)
    values["input_bn/moving_mean"] = np.zeros(n_channels, np.float32)
    values["input_bn/moving_variance"] = np.full(n_channels, 1.0 - NORM_EPSILON, np.float32)
    return values
