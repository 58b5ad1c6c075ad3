"""The optimizer of the settings, as torch has it, and averages of the weights it goes through.

AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), Adam (Kingma & Ba 2015), stochastic gradient with
Nesterov's momentum, RMSprop without (Tieleman & Hinton 2012). Averages: exponential over the steps (Polyak), or SWA,
the plain mean of the weights after each of the last epochs (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407).
"""

from typing import Any

import torch

from birdnet_fs import schema


def build_optimizer(groups: list[dict[str, Any]], settings: schema.Training) -> torch.optim.Optimizer:
    """The optimizer.

    Args:
        groups: Of parameters, each with its weight_decay (`layerwise.groups`). With "adamw" it is decoupled, else
            added to the gradient.
        settings: Its `optimizer`, `beta1` (of "sgd" the momentum), `beta2` (of "rmsprop" the smoothing) and `amsgrad`.
    """
    if settings.optimizer.name == "sgd":
        return torch.optim.SGD(
            groups, lr=settings.learning_rate, momentum=settings.optimizer.beta1, nesterov=settings.optimizer.beta1 > 0
        )
    if settings.optimizer.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=settings.learning_rate, alpha=settings.optimizer.beta2)
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[settings.optimizer.name]
    betas = (settings.optimizer.beta1, settings.optimizer.beta2)
    return kind(groups, lr=settings.learning_rate, betas=betas, amsgrad=settings.optimizer.amsgrad)


class WeightAverage:
    """The plain mean of the tensors seen so far, kept on their device."""

    def __init__(self) -> None:
        self.n, self.tensors = 0, list[torch.Tensor]()

    def update(self, tensors: list[torch.Tensor]) -> None:
        """Take in one more set, as long and of the same shapes as those before."""
        self.n += 1
        with torch.no_grad():
            if self.n == 1:
                self.tensors = [t.detach().clone() for t in tensors]
            else:
                torch._foreach_lerp_(self.tensors, [t.detach() for t in tensors], 1 / self.n)
