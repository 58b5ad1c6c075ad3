"""The parts of an optimizer step that join the processes of a group.

Every process computes the network on its rows of the batch. The outputs and targets of all rows are gathered, so that
each process computes the loss of the whole batch: that is exact for every loss, whether it is a mean over rows, a mean
over known targets, or over pairs of rows (soft AUC, episodes), and all processes have the same value and decide the
same. The gradient of the weights is the sum of what the rows of each process contribute.

torch's DistributedDataParallel is not used: it wraps a module, which the lowered network is not, and averages the
gradients of local losses, which is another number than the gradient of the whole batch when parts have different sizes
or the loss is not a mean over rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from birdnet_fs.core.distributed import group
from birdnet_fs.core.distributed.exchange import all_gather, exchanging
from birdnet_fs.core.random_streams import Stream, integer_seed

BUCKET_BYTES = 64_000_000  # of gradients that are summed at once, so that their copy takes little memory


def gathered(values: Any, n_rows: Sequence[int]) -> Any:
    """Join the rows of all processes, in the order of their ranks.

    In the backward pass each process takes the gradient of its own rows, times the number of processes, because each
    of them minimizes its share, 1 / `size`, of the same loss.

    Args:
        values: A tensor [n_own_rows, ...], or a (nested) list or tuple of such tensors; None and () stay.
        n_rows: Number of rows of each process.

    Returns:
        The same structure with tensors [n_rows_of_all, ...].
    """
    if values is None or group.size() == 1:
        return values
    if isinstance(values, (list, tuple)):
        parts = [gathered(value, n_rows) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else type(values)(parts)
    return _Gather.apply(values, tuple(n_rows))


def sum_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace the gradients by their sums over all processes.

    Args:
        parameters: Tensors of any shape [...]; those without a gradient are left out, the same in all processes.
    """
    if group.size() == 1:
        return
    bucket: list[Tensor] = []
    n_bytes = 0
    gradients = [p.grad for p in parameters if p.grad is not None]
    for i, gradient in enumerate(gradients):
        bucket.append(gradient)
        n_bytes += gradient.nbytes
        last = i + 1 == len(gradients)
        if last or n_bytes >= BUCKET_BYTES or gradients[i + 1].dtype != gradient.dtype:
            _sum(bucket)
            bucket, n_bytes = [], 0


def seed_dropout(seed: int, step: int) -> None:
    """Seed torch's generators for one step of this process; in a single process they go on as they are.

    The rows of a process get draws of their own, which depend on nothing but the arguments and the rank, so that a
    resumed training draws the same.

    Args:
        seed: Seed of the training, 0 or more.
        step: Number of the step, from 0.
    """
    if group.size() > 1:
        torch.manual_seed(integer_seed(seed, Stream.PROCESS_TORCH, step, group.rank()))


def share_weights(tensors: Sequence[Tensor]) -> None:
    """Set tensors of any shape [...] to those of the main process."""
    if group.size() == 1:
        return
    with torch.no_grad(), exchanging():
        for tensor in tensors:
            value = tensor.detach().contiguous()
            dist.broadcast(value, 0)
            tensor.copy_(value)


def _sum(gradients: Sequence[Tensor]) -> None:
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    with exchanging():
        dist.all_reduce(flat)
    for gradient, total in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(total.reshape(gradient.shape))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, n_rows: tuple[int, ...]) -> Tensor:
        ctx.first, ctx.n = sum(n_rows[: group.rank()]), len(rows)
        padded = rows.new_zeros(max(n_rows), *rows.shape[1:])
        padded[: len(rows)] = rows
        return torch.cat([part[:n] for part, n in zip(all_gather(padded), n_rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0][ctx.first : ctx.first + ctx.n] * group.size(), None
