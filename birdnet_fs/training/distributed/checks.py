"""Refusal of trainings that several processes cannot do together, before anything is decoded or computed."""

import keras
import torch

from birdnet_fs import schema
from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.lowering.lower import Lowered


def check_experiment(experiment: schema.Experiment) -> None:
    """Check that the processes of the group can train an experiment together; a single process can train all.

    Args:
        experiment: The settings.

    Raises:
        UserError: The experiment is one for a single process.
    """
    n = group.size()
    if n == 1:
        return
    if experiment.model.encoder:
        raise UserError(
            "A head on model.encoder is trained by one process, since the clips are embedded once; start it without "
            "torchrun."
        )
    if experiment.training.gradient_checkpointing:
        raise UserError(
            "training.gradient_checkpointing computes parts of the network again while gradients are exchanged, which "
            "is for one process; start it without torchrun, or set training.gradient_checkpointing=false."
        )
    size = experiment.episodes.n_clips if experiment.episodes else experiment.training.batch_size
    if size < n:
        raise UserError(
            f"A batch is divided among {n} processes, so it must have {n} segments or more. Received: "
            f"training.batch_size={size}"
        )


def check_network(network: Lowered, *, quantized: bool) -> None:
    """Check that a network computes the same when its batch is divided.

    Args:
        network: The lowered network.
        quantized: Whether it is trained with simulated 8-bit arithmetic.

    Raises:
        UserError: The network has BatchNormalization that is not computed over all processes, or ranges of activations.
    """
    if group.size() == 1:
        return
    if quantized:
        raise UserError("8-bit training measures the ranges of activations in one process; start it without torchrun.")
    layers = network.model._flatten_layers(include_self=False)
    unsynchronized = [
        layer.name
        for layer in layers
        if isinstance(layer, keras.layers.BatchNormalization)
        and (network.fallback or layer.name in network.slow_layers)
    ]
    if unsynchronized:
        raise UserError(
            f"The BatchNormalization {unsynchronized[0]!r} would use the statistics of the rows of each process alone "
            f"({network.fallback or 'its configuration is not lowered to torch'}); start the training without torchrun."
        )


def own_gpu() -> None:
    """Select the GPU of this process: the one with its number on this machine.

    Raises:
        UserError: The machine has fewer GPUs than processes.
    """
    if group.size() == 1:
        return
    if group.local_rank() >= torch.cuda.device_count():
        raise UserError(
            f"Process {group.rank()} needs a GPU of its own, the number {group.local_rank()} of its machine, which has "
            f"{torch.cuda.device_count()}; give torchrun --nproc-per-node {torch.cuda.device_count()}, or set "
            "training.device=cpu."
        )
    torch.cuda.set_device(group.local_rank())
