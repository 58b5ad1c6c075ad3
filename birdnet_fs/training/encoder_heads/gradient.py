"""Heads that are trained by gradients: "mlp" and "attentive".

AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with a cosine schedule, and mixup of embeddings
(Zhang et al. 2018, https://arxiv.org/abs/1710.09412; Verma et al. 2019, "Manifold Mixup",
https://arxiv.org/abs/1806.05236). Equal seeds give equal weights on a CPU.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.random_streams import Stream, generator, integer_seed
from birdnet_fs.models.heads.on_embedding import build_encoder_head
from birdnet_fs.models.heads.own_scores import build_head_with_own_scores
from birdnet_fs.models.lowering.lower import Lowered, lower
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.rows import Rows, token_rows, training_rows
from birdnet_fs.training.encoder_heads.solution import Solution
from birdnet_fs.training.encoder_heads.transform import Transform, fit_own_transform, on_raw_scores

BATCH = 512  # rows of a step, at most
MIN_STEPS_ON_TOKENS = 4  # of an epoch: queries take more steps than kernels
WEIGHT_DECAY = 0.05
SCORED = 1024  # windows scored at a time


Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # logits, targets, weights -> scalar


def solve_by_gradient(
    data: HeadData, transform: Transform, candidates: Sequence[schema.Model], experiment: schema.Experiment
) -> list[Solution]:
    """Train a head for each candidate.

    Args:
        data: The training data.
        transform: The transform of all candidates.
        candidates: Settings; uses `head`, `dropout`, `logit_scale` and `encoder_head`.
        experiment: Uses `seed`, `data.multi_label` and `training.loss` (label smoothing and class weights).

    Returns:
        One solution for each candidate.
    """
    if transform.layer == "tokens":
        rows = token_rows(data, transform(data.features), experiment)
    else:
        rows = training_rows(data, transform(data.embeddings), experiment)
    own_transform = fit_own_transform(data)
    if own_transform is not None and data.own is not None:
        own = own_transform(data.own)
        x = np.concatenate([rows.x, np.concatenate([own, data.means(own)])], axis=1)
        rows = Rows(x, rows.loss, rows.basis)
    solutions = []
    for model in candidates:
        rng = generator(experiment.seed, Stream.HEAD)
        if data.n_own:  # a network on rows that are transformed already
            plain = dataclasses.replace(model.encoder_head, transform="none")
            of_rows = dataclasses.replace(model, encoder_head=plain)
            network = build_head_with_own_scores(of_rows, rows.x.shape[1:], data.targets.shape[1], data.n_own)
        else:
            network = build_encoder_head(model, rows.x.shape[1:], data.targets.shape[1])
        _initialize(network, rng, n_own=data.n_own)
        start = network.input if data.n_own else network.get_layer(transform.layer).output
        tail = lower(keras.Model(start, network.output))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(integer_seed(experiment.seed, Stream.HEAD_TORCH, 0))
            history = _fit(tail, network, rows, model.encoder_head, rng)
        weights = {v.path: np.array(keras.ops.convert_to_numpy(v.value)) for v in network.weights}
        weights = {path: value for path, value in weights.items() if "seed_generator" not in path} | transform.weights
        if model.head == "mlp":
            weights["hidden/kernel"] = rows.to_width(weights["hidden/kernel"]).astype(np.float32)
        weights["logits/bias"] = np.where(rows.loss.present, weights["logits/bias"], rows.loss.bias_of_absent).astype(
            np.float32
        )
        weights = on_raw_scores(weights, own_transform)
        solutions.append(Solution(model, weights, _score(model, weights), history))
    return solutions


def cross_entropy(multi_label: bool, class_weights: NDArray | None) -> Loss:
    """The loss of `logistic.CrossEntropy` for the rows of a batch.

    Args:
        multi_label: Sigmoid for each class, else one softmax.
        class_weights: [n_classes], factor of the loss of the positives of each class. None: 1.

    Returns:
        Function of logits and targets [batch, n_classes] and weights [batch], which returns the sum of the weighted
        losses over the size of the batch.
    """
    factor = torch.ones(()) if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)

    def loss(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        t = targets.clamp(min=0)
        if not multi_label:
            return (weights * -(factor.to(t) * t * F.log_softmax(logits, 1)).sum(1)).mean()
        each = F.binary_cross_entropy_with_logits(logits, t, pos_weight=factor.to(t), reduction="none")
        return (weights[:, None] * each * (targets >= 0)).sum(1).mean()

    return loss


def _initialize(network: keras.Model, rng: np.random.Generator, *, n_own: int = 0) -> None:
    """Set the weights by the random stream of the head, instead of by Keras' global one (Glorot and Bengio 2010).

    Those of own scores in the last layer start at 0: few steps would not undo random ones.
    """
    for variable in network.trainable_weights:
        shape = tuple(variable.shape)
        limit = math.sqrt(6 / sum(shape)) if len(shape) == 2 else 0.0
        value = rng.uniform(-limit, limit, shape).astype(np.float32)
        if n_own and variable.path == "logits/kernel":
            value[-n_own:] = 0
        variable.assign(value)


def _fit(
    tail: Lowered, network: keras.Model, rows: Rows, settings: schema.EncoderHead, rng: np.random.Generator
) -> list[dict[str, float]]:
    """Train in place; one row of the history per epoch. The bias of one-vs-rest logits stays 0 (logistic.py)."""
    parameters = [
        variable.value
        for variable in network.trainable_weights
        if rows.loss.fits_bias or variable.path != "logits/bias"
    ]
    device, n = parameters[0].device, len(rows.x)
    loss = cross_entropy(rows.loss.multi_label, rows.loss.class_weights)
    given = (rows.x, rows.loss.targets, rows.loss.weights * n)
    x, targets, weights = (torch.as_tensor(np.asarray(a, np.float32), device=device) for a in given)
    n_batches = max(math.ceil(n / BATCH), min(n, MIN_STEPS_ON_TOKENS if x.ndim == 3 else 1))
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * n_batches)
    history: list[dict[str, float]] = []
    started = time.monotonic()
    for epoch in range(settings.epochs):
        total, rate = torch.zeros((), device=device), float(schedule.get_last_lr()[0])
        for places in np.array_split(rng.permutation(n), n_batches):
            i = torch.as_tensor(places, device=device)
            batch = x[i], targets[i], weights[i]
            if settings.mixup:
                batch = _mixed(*batch, settings.mixup, rng)
            optimizer.zero_grad()
            value = loss(tail(batch[0], training=True), batch[1], batch[2])
            value.backward()
            optimizer.step()
            schedule.step()
            total += value.detach() * len(i) / n
        seconds = round(time.monotonic() - started, 3)
        history.append({"epoch": epoch + 1.0, "train_loss": float(total), "learning_rate": rate, "seconds": seconds})
    return history


def _mixed(
    x: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, alpha: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Each row mixed with another of the batch; a target is unknown where one of both is."""
    other = torch.as_tensor(rng.permutation(len(x)), device=x.device)
    part = torch.as_tensor(rng.beta(alpha, alpha, len(x)), dtype=x.dtype, device=x.device)

    def mix(a: torch.Tensor) -> torch.Tensor:
        own = part.reshape(-1, *[1] * (a.ndim - 1))
        return own * a + (1 - own) * a[other]

    known = (targets >= 0) & (targets[other] >= 0)
    return mix(x), torch.where(known, mix(targets), -1.0), mix(weights)


def _score(model: schema.Model, weights: Mapping[str, NDArray]) -> Callable[[HeadData], NDArray]:
    def score(data: HeadData) -> NDArray:
        x = data.inputs
        network = build_head_with_own_scores(model, data.input_shape, data.targets.shape[1], data.n_own)
        for variable in network.weights:
            if variable.path in weights:
                variable.assign(weights[variable.path])
        lowered = lower(network)
        with torch.inference_mode():
            parts = [lowered(x[start : start + SCORED]).cpu().numpy() for start in range(0, len(x), SCORED)]
        return np.concatenate(parts)

    return score
