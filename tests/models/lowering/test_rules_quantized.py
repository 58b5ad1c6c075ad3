"""Rules for 8-bit layers: bit for bit torch's rounding, and the result of plain Keras."""

import pytest
import tolerances
import torch
from quantized_networks import NAMES, RANGES, features, measured, network

from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.lowering.rules_quantized import rounded
from birdnet_fs.models.quantization.convert import quantize, ranges, set_phase
from birdnet_fs.models.quantization.fake_quant import (
    LEARN,
    scale_and_zero,
)


def test_the_lowered_rounding_is_torchs_own_bit_for_bit():
    x = torch.randn((2, 3, 50, 40), generator=torch.Generator().manual_seed(0)).permute(0, 2, 3, 1) * 3
    for low, high in RANGES.values():
        scale, zero = scale_and_zero(torch.tensor(low), torch.tensor(high))
        expected = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)
        assert torch.equal(rounded(x, scale, zero.float()), expected)
        assert torch.equal(rounded(x.clone().requires_grad_(), scale, zero.float()), expected)


@pytest.mark.parametrize("name", NAMES)
def test_lowered_computes_as_keras(name):
    model = network(name)
    x = features(model)
    made = measured(quantize(model), x)
    flat, folded = lower(made), lower(made, fold=True)
    assert not flat.fallback and [n for n in flat.slow_layers if "spec_augment" not in n] == []
    step = float(made.get_layer("logits_range").high - made.get_layer("logits_range").low) / 255
    with torch.no_grad():
        keras_order = made(x)
        # sums in another order turn some roundings, and what lies behind them
        assert float((flat(x) - keras_order).abs().max()) < tolerances.STEPS_TURNED * step
        assert torch.equal(flat(x), folded(x))
    grids = list(ranges(made))
    before = [float(grid.high) for grid in grids]
    set_phase(made, LEARN)
    flat(2 * x, training=True).sum().backward()
    assert all(torch.isfinite(v.value.grad).all() for v in made.trainable_variables)
    assert sum(float(grid.high) != high for grid, high in zip(grids, before, strict=True)) > len(grids) / 2
