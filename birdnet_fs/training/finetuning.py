"""Blocks of a network: which stay as they are, and how fast the others learn.

Rates that fall towards the input are discriminative fine-tuning (Howard, Ruder 2018, "ULMFiT", section 3.2,
https://arxiv.org/abs/1801.06146), as a power of one decay for each block (Clark et al. 2020, "ELECTRA", table 7,
https://arxiv.org/abs/2003.10555; Bao et al. 2022, "BEiT", https://arxiv.org/abs/2106.08254).

A block is all layers with weights whose names are the same up to the first "_": "block2a" is block2a_expand_conv,
block2a_expand_bn and so on. Blocks stand in the order of the graph, the input first; the head is none of them.
"""

from typing import Any

import keras

from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads import WEIGHTS as HEAD
from birdnet_fs.models.quantization.fake_quant import FakeQuantize


def blocks_of(model: keras.Model) -> list[str]:
    """The names of a network's blocks, from the input on.

    >>> from birdnet_fs import models
    >>> blocks_of(models.build("cnn/tiny", input_shape=(32, 32, 1), n_classes=2))
    ['bn0', 'stem', 'block1', 'block2', 'block3']
    """
    return list(dict.fromkeys(_block(v.path) for v in _in_order(model) if not v.path.startswith(HEAD)))


def freeze_blocks(model: keras.Model, n_blocks: int) -> None:
    """Keep the weights of the first blocks as they are; their BatchNorm uses and keeps its moving statistics.

    Args:
        model: The network; its layers' `trainable` is set.
        n_blocks: 0 changes nothing; -1 freezes all but the head.

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
    """Let the weights of every layer learn that `freeze_blocks` kept."""
    for layer in model.layers:
        layer.trainable = True


def parameter_groups(model: keras.Model, *, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Groups of torch Parameters for an optimizer, each with the "factor" of its learning rate.

    Args:
        model: The network.
        weight_decay: Of kernels; biases and norms have none.
        layer_decay: Rate of a block / rate of the next one towards the head, whose factor is 1; 1 gives all the same.
    """
    blocks = blocks_of(model)
    factors = {block: layer_decay ** (len(blocks) - i) for i, block in enumerate(blocks)}
    found: dict[tuple[float, float], list[Any]] = {}
    for v in model.trainable_variables:
        factor = 1.0 if v.path.startswith(HEAD) else factors[_block(v.path)]
        found.setdefault((factor, weight_decay if len(v.shape) > 1 else 0.0), []).append(v.value)
    return [{"params": p, "weight_decay": decay, "factor": factor} for (factor, decay), p in found.items()]


def _in_order(model: keras.Model) -> list[Any]:
    known = (layer for layer in model.layers if not isinstance(layer, FakeQuantize))  # ranges are part of no block
    return [v for layer in known for v in layer.weights if "seed_generator" not in v.path]


def _block(name: str) -> str:
    return name.partition("/")[0].partition("_")[0]
