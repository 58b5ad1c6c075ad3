"""Common parts of the lowering rules: activations, memory layout, casts."""

import torch
import torch.nn.functional as F
from keras import activations, layers

from birdnet_fs.models.lowering.calls import (
    LayerContext,
    activation_behind,
    activation_of,
    as_dtype,
    is_changed,
    restride,
    value_of,
)


def test_activation_of_is_the_torch_function_or_that_of_keras() -> None:
    assert activation_of(layers.Dense(2)) is None
    assert activation_of(layers.Dense(2, activation="gelu")) is F.gelu
    assert activation_of(layers.ReLU()) is F.relu and activation_of(layers.ReLU(6)) is F.relu6
    assert activation_of(layers.Dense(2, activation="log_softmax")) is activations.log_softmax
    leaky = layers.ReLU(negative_slope=0.1)
    assert activation_of(leaky) == leaky.call


def test_activation_behind_works_in_place_unless_a_gradient_needs_the_input() -> None:
    site = LayerContext(layers.Dense(2), ((None, 2),), (layers.Activation("silu"),))
    activation = activation_behind(site)
    x = torch.tensor([-1.0, 2.0])
    expected = F.silu(x)
    y = activation(x)
    assert y is x and torch.equal(x, expected)
    needed = torch.tensor([-1.0, 2.0], requires_grad=True)
    assert torch.equal(activation(needed), expected) and needed.tolist() == [-1.0, 2.0]
    assert activation_behind(LayerContext(layers.Dense(2), ((None, 2),))) is None


def test_restride_changes_the_memory_layout_only() -> None:
    kernel = torch.nn.Parameter(torch.randn(3, 3, 4, 6))
    before = kernel.detach().clone()
    restride(kernel, (3, 2, 0, 1), (2, 3, 1, 0), torch.contiguous_format)
    assert torch.equal(kernel, before) and not kernel.is_contiguous()
    assert kernel.permute(3, 2, 0, 1).is_contiguous()


def test_as_dtype_returns_the_same_tensor_of_the_same_dtype() -> None:
    x = torch.ones(2)
    assert as_dtype(x, torch.float32) is x and as_dtype(x, torch.float64).dtype == torch.float64


def test_is_changed_finds_lora() -> None:
    dense = layers.Dense(2)
    dense.build((None, 3))
    assert not is_changed(dense)
    dense.enable_lora(1)
    assert is_changed(dense)


def test_value_of_is_the_parameter_or_none() -> None:
    dense = layers.Dense(2, use_bias=False)
    dense.build((None, 3))
    assert value_of(dense.kernel) is dense.kernel.value and value_of(dense.bias) is None
