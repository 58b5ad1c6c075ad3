"""BatchNormalization in training over a batch that is divided among processes.

Each process computes the count, mean and sum of squared deviations of its rows; all of them are gathered and combined
by the formula of Chan, Golub and LeVeque 1979 ("Updating Formulae and a Pairwise Algorithm for Computing Sample
Variances"), which does not subtract large numbers. In the backward pass the sums over the batch that the gradient of
the input contains are added up over all processes. The gradients of scale and offset are those of the own rows, like
the gradients of all other weights, which the trainer adds up.

torch.nn.SyncBatchNorm computes the same on GPUs only, and updates the moving variance by the unbiased estimate, where
Keras uses the biased one.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from birdnet_fs.core.distributed.exchange import all_gather, exchanging


def sync_batch_norm(
    x: Tensor,
    moving_mean: Tensor,
    moving_variance: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    momentum: float,
    epsilon: float,
) -> Tensor:
    """Normalize by the statistics of the rows of all processes, and update the moving ones as Keras does.

    Args:
        x: float [batch, n_channels, ...], the rows of this process; the batch may be empty.
        moving_mean: float [n_channels], updated in place.
        moving_variance: float [n_channels], updated in place.
        gamma: float [n_channels], scale; None: 1.
        beta: float [n_channels], offset; None: 0.
        momentum: Share of the moving statistics that is kept, 0..1.
        epsilon: Number added to the variance, above 0.

    Returns:
        The normalized rows, of the shape and dtype of `x`.
    """
    mean, variance, count = _statistics(x)
    with torch.no_grad():
        moving_mean.mul_(momentum).add_(mean, alpha=1 - momentum)
        moving_variance.mul_(momentum).add_(variance, alpha=1 - momentum)
    return _Normalize.apply(x, gamma, beta, mean, variance, count, epsilon)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance of each channel over all processes, and the number of values of a channel."""
    x = x.detach()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    n = x.numel() // x.shape[1]
    own = torch.zeros(2 * x.shape[1] + 1, dtype=torch.float64, device=x.device)
    if n:
        variance, mean = torch.var_mean(x.to(dtype), axes, correction=0)
        own = torch.cat([own.new_tensor([n]), mean.double(), variance.double() * n])
    parts = all_gather(own)
    counts, means, squares = parts[:, :1], *parts[:, 1:].chunk(2, dim=1)
    count = counts.sum()
    mean = (counts * means).sum(0) / count
    variance = (squares + counts * (means - mean) ** 2).sum(0) / count
    return mean.to(dtype), variance.to(dtype), float(count)


class _Normalize(torch.autograd.Function):
    """Normalization by given statistics whose gradient takes into account that they depend on all rows."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: float,
        epsilon: float,
    ) -> Tensor:
        ctx.save_for_backward(x, gamma, mean, variance)
        ctx.count, ctx.epsilon, ctx.has_beta = count, epsilon, beta is not None
        return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, gamma, mean, variance = ctx.saved_tensors
        dtype, shape = mean.dtype, (1, -1, *[1] * (x.ndim - 2))
        axes = [axis for axis in range(x.ndim) if axis != 1]
        scale = torch.rsqrt(variance + ctx.epsilon)
        gradient = gradients[0].to(dtype)
        normalized = (x.to(dtype) - mean.reshape(shape)) * scale.reshape(shape)
        own = torch.stack([gradient.sum(axes), (gradient * normalized).sum(axes)])
        sums = own.clone()
        with exchanging():
            dist.all_reduce(sums)
        by_mean, by_variance = (sums / ctx.count).unbind()
        factor = scale if gamma is None else scale * gamma
        dx = factor.reshape(shape) * (gradient - by_mean.reshape(shape) - normalized * by_variance.reshape(shape))
        return (
            dx.to(x.dtype),
            None if gamma is None else own[1],
            own[0] if ctx.has_beta else None,
            None,
            None,
            None,
            None,
        )
