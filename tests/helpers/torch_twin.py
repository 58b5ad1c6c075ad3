"""A plain PyTorch network and ours with the same weights: for the families that torch users know from torchvision."""

from collections.abc import Callable

import keras
import torch
from torch import nn


def with_fitting_statistics(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """The network in eval mode, no vector at its initial value, moving statistics that fit `x`.

    Without such statistics the signal of a deep fresh network dies out or explodes on its way.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.numel() == max(parameter.shape):  # bias, factors of a norm or of LayerScale
                parameter.copy_(torch.rand(parameter.shape) + 0.5)
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.bias.copy_(torch.randn(norm.bias.shape) * 0.2)
            norm.momentum = 1.0  # the statistics of this one batch
        network.train()(x)
        for norm in norms:
            norm.running_var.mul_(1.1).add_(0.01)
    return network.eval()


def copy(network: nn.Module, ours: keras.Model, name_of: Callable[[str], str]) -> None:
    """Every weight of `network` into `ours`; `name_of` gives our layer's name for a module's. None is left over."""
    modules = {name_of(name): m for name, m in network.named_modules() if list(m.parameters(recurse=False))}
    assert set(modules) == {layer.name for layer in ours.layers if layer.weights}
    for name, module in modules.items():
        values = [*module.parameters(recurse=False)]
        if isinstance(module, nn.Conv2d):  # time is the first axis here and there
            depthwise = module.groups == module.in_channels == module.out_channels > 1
            values[0] = values[0].permute((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        elif isinstance(module, nn.Linear):
            values[0] = values[0].t()
        elif isinstance(module, nn.BatchNorm2d):
            values += [module.running_mean, module.running_var]
        for variable, value in zip(ours.get_layer(name).weights, values, strict=True):
            # a convolution over channels (nn.Conv1d) has ones more here, LayerScale has them there
            value = value if value.ndim == len(variable.shape) else value.reshape(variable.shape)
            assert tuple(value.shape) == tuple(variable.shape), name
            variable.assign(value.detach())


def largest_difference(ours: keras.Model, network: nn.Module, x: torch.Tensor) -> float:
    """Between the answers to features `x` [batch, n_channels, n_frames, n_mels], over the largest answer."""
    with torch.no_grad():
        expected = network(x)
        got = ours(x.permute(0, 2, 3, 1), training=False)
    assert float(expected.std()) > 1e-3
    return float((got - expected).abs().max() / expected.abs().max())
