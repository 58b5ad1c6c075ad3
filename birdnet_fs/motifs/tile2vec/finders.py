"""Search for a learning rate and a batch size before a training.

Learning rate: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", https://arxiv.org/abs/1506.01186: the
rate grows from step to step, and the one at which the loss falls fastest is chosen. Batch size: the largest power of
two whose training step fits into memory, computed from the bytes that autograd holds for one batch of two triplets,
since a process that runs out of memory on a CPU is killed without an error.
"""

import math
import os
from collections.abc import Callable

import keras
import numpy as np
import torch

from birdnet_fs.core.progress import track
from birdnet_fs.motifs.tile2vec.batches import FeatureBatch
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.tile2vec.step import Stepper

LOWEST_RATE, HIGHEST_RATE, N_RATES = 1e-7, 1.0, 60
DIVERGED = 4.0  # times the lowest smoothed loss: the search ends there
SMOOTHING = 0.8  # share of the earlier losses in the smoothed one
ENDS_LEFT_OUT = 5  # rates at either end, where the slope is noise
SHARE_OF_MEMORY = 0.7  # of what is free
MOST = 4096  # triplets


def find_learning_rate(
    model: keras.Model, batch_of: Callable[[int], FeatureBatch], settings: Tile2VecSettings, n_rates: int = N_RATES
) -> tuple[float | None, list[tuple[float, float]]]:
    """Find the learning rate at which the loss falls fastest.

    Args:
        model: A network, which is trained in place: give one that is not used afterwards.
        batch_of: Number of a step -> its batch.
        settings: Settings of the training.
        n_rates: Number of rates, from LOWEST_RATE to HIGHEST_RATE. Default: N_RATES.

    Returns:
        The rate, None where the loss fell nowhere; and each rate with its smoothed loss, up to where it diverged.
    """
    stepper, curve, mean = Stepper(model, settings), list[tuple[float, float]](), 0.0
    rates = np.geomspace(LOWEST_RATE, HIGHEST_RATE, n_rates)
    for number, rate in enumerate(track(rates.tolist(), "learning-rate finder", unit="step")):
        try:
            loss = stepper.step(batch_of(number), rate)
        except FloatingPointError:
            break
        if loss is None:
            break
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING ** (number + 1))
        if curve and smoothed > DIVERGED * min(value for _, value in curve):
            break
        curve.append((rate, smoothed))
    return steepest_rate(curve), curve


def steepest_rate(curve: list[tuple[float, float]]) -> float | None:
    """The rate at which a curve of smoothed losses falls fastest; None where it is too short or falls nowhere.

    Args:
        curve: Rates in increasing order, each with a loss.

    Returns:
        One of the rates.
    """
    if len(curve) < 2 * ENDS_LEFT_OUT + 2:
        return None
    rates, losses = (np.array(values) for values in zip(*curve, strict=True))
    inner = slice(ENDS_LEFT_OUT, -ENDS_LEFT_OUT)
    slopes = np.gradient(losses, np.log(rates))[inner]
    return float(rates[inner][slopes.argmin()]) if slopes.min() < 0 else None


def find_batch_size(
    model: keras.Model, batch: FeatureBatch, settings: Tile2VecSettings, free_bytes: int | None = None
) -> int:
    """The largest power of two of triplets whose training step fits into memory.

    Args:
        model: The network; it is not changed.
        batch: A batch of two triplets or more.
        settings: Settings of the training.
        free_bytes: Memory that may be used. None: what the device of the model has free.

    Returns:
        2 to MOST; 2 also where not even that fits.
    """
    stepper = Stepper(model, settings)
    device = model.trainable_variables[0].value.device
    n = len(batch.anchor)
    held = {"bytes": 0}

    def add(tensor: torch.Tensor) -> torch.Tensor:
        held["bytes"] += tensor.numel() * tensor.element_size()
        return tensor

    statistics = [v.value for v in model.non_trainable_variables]
    before = [tensor.detach().clone() for tensor in statistics]
    with torch.autograd.graph.saved_tensors_hooks(add, lambda tensor: tensor):
        stepper.loss(batch, training=True)
    with torch.no_grad():
        for tensor, old in zip(statistics, before, strict=True):
            tensor.copy_(old)
    weights = sum(p.numel() * p.element_size() for p in (v.value for v in model.weights))
    features = sum(part.nbytes for part in batch)
    per_triplet = (2 * held["bytes"] + 2 * features) / n  # gradients of activations are as large as these
    free = _free_bytes(device) if free_bytes is None else free_bytes
    fits = (SHARE_OF_MEMORY * free - 3 * weights) / per_triplet  # gradients and two moments of AdamW
    return 2 ** min(int(math.log2(MOST)), max(1, math.floor(math.log2(max(2.0, fits)))))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) if hasattr(os, "sysconf") else 2**31
