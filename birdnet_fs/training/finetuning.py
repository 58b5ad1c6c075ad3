"""Fine-tuning: frozen blocks and learning rates that decrease towards the input.

Discriminative learning rates (Howard, Ruder 2018, "ULMFiT", section 3.2, https://arxiv.org/abs/1801.06146), as a power
of one decay for each block (Clark et al. 2020, "ELECTRA", table 7, https://arxiv.org/abs/2003.10555; Bao et al. 2022,
"BEiT", https://arxiv.org/abs/2106.08254).

A block consists of all layers with weights whose names agree up to the first "_": "block2a" is block2a_expand_conv,
block2a_expand_bn and so on. Blocks are in the order of the graph, from the input; the head is not a block.
"""

from typing import Any

import keras

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads import WEIGHTS as HEAD
from birdnet_fs.models.quantization.fake_quant import FakeQuantize


def blocks_of(model: keras.Model) -> list[str]:
    """List the names of the blocks of a network, from the input on.

    >>> from birdnet_fs import models
    >>> blocks_of(models.build("cnn/tiny", input_shape=(32, 32, 1), n_classes=2))
    ['bn0', 'stem', 'block1', 'block2', 'block3']
    """
    return list(dict.fromkeys(_block(v.path) for v in _in_order(model) if not v.path.startswith(HEAD)))


def freeze_blocks(model: keras.Model, n_blocks: int) -> None:
    """Freeze the weights of the first blocks; their BatchNorm layers use and keep their moving statistics.

    Args:
        model: The network; `trainable` of its layers is set.
        n_blocks: Number of blocks to freeze; 0 changes nothing, -1 freezes everything except the head.

    Raises:
        UserError: The network has fewer blocks.
    """
    blocks = blocks_of(model)
    if n_blocks > len(blocks):
        raise UserError(
            f"training.finetuning.freeze_blocks must be at most {len(blocks)}: the blocks of {model.name} are "
            f"{', '.join(blocks)}. Received: {n_blocks}"
        )
    frozen = set(blocks if n_blocks < 0 else blocks[:n_blocks])
    for layer in model.layers:
        if layer.weights and not f"{layer.name}/".startswith(HEAD) and _block(layer.name) in frozen:
            layer.trainable = False


def unfreeze(model: keras.Model) -> None:
    """Make the weights of every layer trainable again after `freeze_blocks`."""
    for layer in model.layers:
        layer.trainable = True


def parameter_groups(model: keras.Model, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Group the trainable weights for an optimizer.

    Args:
        model: The network.
        weight_decay: Weight decay of kernels, 0 or more; biases and normalization weights have none.
        layer_decay: Learning rate of a block divided by that of the next block towards the head, above 0. The head has
            the factor 1; 1 gives all blocks the same rate.

    Returns:
        Groups with the keys "params" (torch parameters), "weight_decay" and "factor" (of the learning rate).
    """
    blocks = blocks_of(model)
    factors = {block: layer_decay ** (len(blocks) - i) for i, block in enumerate(blocks)}
    found: dict[tuple[float, float], list[Any]] = {}
    for v in model.trainable_variables:
        factor = 1.0 if v.path.startswith(HEAD) else factors[_block(v.path)]
        found.setdefault((factor, weight_decay if len(v.shape) > 1 else 0.0), []).append(v.value)
    return [{"params": p, "weight_decay": decay, "factor": factor} for (factor, decay), p in found.items()]


def _in_order(model: keras.Model) -> list[Any]:
    known = (layer for layer in model.layers if not isinstance(layer, FakeQuantize))  # ranges belong to no block
    return [v for layer in known for v in layer.weights if "seed_generator" not in v.path]


def _block(name: str) -> str:
    return name.partition("/")[0].partition("_")[0]
