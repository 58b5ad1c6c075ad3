"""Rounding to 8 bits against its formula in NumPy; gradients and ranges."""

import numpy as np
import pytest
import tolerances
import torch
from quantized_networks import RANGES

from birdnet_fs.models.lowering.rules_quantized import rounded
from birdnet_fs.models.quantization.fake_quant import (
    FIXED,
    LEARN,
    MEASURE,
    MOMENTUM,
    FakeQuantize,
    fake_quantize,
    fake_quantize_kernel,
    scale_and_zero,
)


def by_hand(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """To the nearest of 256 values, in float64; the zero point is rounded as TensorFlow does, .5 upwards."""
    scale = (high - low) / 255
    zero = np.clip(np.floor(0.5 - low / scale), 0, 255)
    return (np.clip(np.round(x / scale + zero), 0, 255) - zero) * scale


@pytest.mark.parametrize("case", RANGES)
def test_rounding_is_that_of_the_formula(case):
    low, high = RANGES[case]
    x = np.random.default_rng(0).normal(0, 3, 4_000).astype(np.float32)
    y = fake_quantize(torch.from_numpy(x), torch.tensor(low), torch.tensor(high)).numpy()
    np.testing.assert_allclose(y, by_hand(x.astype(float), low, high), atol=tolerances.ROUNDED * (high - low))
    assert len(np.unique(y)) > 60 and fake_quantize(torch.zeros(1), torch.tensor(low), torch.tensor(high)) == 0


def test_the_gradient_passes_where_nothing_was_cut_off():
    low, high = torch.tensor(-1.0), torch.tensor(2.0)
    scale, zero = scale_and_zero(low, high)
    x = torch.linspace(-2, 3, 1_001, requires_grad=True)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    steps = x.detach().double().numpy() / scale.item() + zero.item()
    inside = (np.round(steps) >= 0) & (np.round(steps) <= 255)
    assert 0.5 < inside.mean() < 0.7
    for function in (lambda: fake_quantize(x, low, high), lambda: rounded(x, scale, zero.float())):
        (gradient,) = torch.autograd.grad(function(), x, weights)
        np.testing.assert_array_equal(gradient.numpy(), np.where(inside, weights.numpy(), 0))


@pytest.mark.parametrize("axis", [-1, None])
def test_a_kernel_is_rounded_around_zero_and_its_gradient_passes(axis):
    kernel = torch.randn((3, 3, 4, 6), generator=torch.Generator().manual_seed(0)) * torch.arange(6)  # channel 0: zeros
    y = fake_quantize_kernel(kernel.requires_grad_(), axis=axis)
    largest = np.abs(kernel.detach().numpy()).max(axis=(0, 1, 2) if axis == -1 else None)
    smallest = 1e-4 * largest.max() if axis == -1 else 0.0
    step = np.maximum(largest, smallest) / 127
    expected = np.round(kernel.detach().numpy() / step) * step
    np.testing.assert_allclose(y.detach().numpy(), expected, atol=tolerances.ROUNDED * largest.max())
    (gradient,) = torch.autograd.grad(y.sum(), kernel)
    assert (gradient == 1).all()


def test_a_range_is_measured_then_follows_then_stays():
    grid = FakeQuantize()
    batches = [torch.tensor([-1.0, 3.0]), torch.tensor([1.0, 5.0]), torch.tensor([0.0, 0.0])]
    grid.build((2,))
    assert [float(v) for v in grid.range()] == [0, 1]
    grid.phase = MEASURE
    for x in batches:
        assert torch.equal(grid(x), x)
    assert [float(v) for v in grid.range()] == [-0.5, 4.0]  # zeros alone move nothing
    grid.phase = LEARN
    grid(torch.tensor([-2.5, 8.0]), training=False)
    assert [float(v) for v in grid.range()] == [-0.5, 4.0]
    for n in range(4, 40):  # the mean of all, until the moving average decays faster
        low, high = (float(v) for v in grid.range())
        rate = max(1 / n, 1 - MOMENTUM)
        y = grid(torch.tensor([-2.5, 8.0]), training=True)
        expected = [(1 - rate) * low - rate * 2.5, (1 - rate) * high + rate * 8]
        np.testing.assert_allclose([float(v) for v in grid.range()], expected, rtol=tolerances.FLOAT32_MEAN)
        np.testing.assert_allclose(y.numpy(), by_hand(np.array([-2.5, 8.0]), *expected), atol=tolerances.ROUNDED * 10)
    grid.phase = FIXED
    now = [float(v) for v in grid.range()]
    grid(torch.tensor([-100.0, 100.0]), training=True)
    assert [float(v) for v in grid.range()] == now
    assert not list(FakeQuantize(bounds=(0, 1)).weights)
