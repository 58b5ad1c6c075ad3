"""Optimizers (torch's own), their arithmetic, and stochastic weight averaging.

AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101), Adam (Kingma & Ba 2015,
https://arxiv.org/abs/1412.6980), stochastic gradient descent with Nesterov momentum, RMSprop without momentum
(Tieleman & Hinton 2012). Stochastic weight averaging (SWA) is the arithmetic mean of the weights after each of the last
epochs (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407).
"""

from typing import Any

import torch

from birdnet_fs import schema


def build_optimizer(groups: list[dict[str, Any]], settings: schema.Training) -> torch.optim.Optimizer:
    """Build the optimizer that the settings name.

    Args:
        groups: Parameter groups with their weight decay (`finetuning.parameter_groups`). The decay is decoupled with
            "adamw" and added to the gradient otherwise.
        settings: Uses `learning_rate`, `optimizer.name`, `optimizer.beta1` (momentum of "sgd"), `optimizer.beta2`
            (smoothing of "rmsprop") and `optimizer.amsgrad`.

    Returns:
        The optimizer, with one parameter group for each of `groups`.
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


def arithmetic_type(precision: str, device: torch.device) -> torch.dtype:
    """Data type of the arithmetic of a step.

    NVIDIA's GPUs compute in bfloat16 from compute capability 8.0 on, and older ones in float16
    (https://docs.nvidia.com/cuda/cuda-c-programming-guide/#compute-capabilities).
    `torch.cuda.is_bf16_supported()` is no test for that: it is true below 8.0, where bfloat16 is emulated.

    Args:
        precision: `training.precision`.
        device: Device of the network.

    Returns:
        The type that `precision` names; for "auto" float32 on a CPU, bfloat16 on a GPU of compute capability 8.0 or
        more, and float16, which needs loss scaling, on any other GPU.
    """
    if precision != "auto":
        return getattr(torch, precision)
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16


class WeightAverage:
    """Running arithmetic mean of lists of tensors, kept on their device.

    Attributes:
        n: Number of lists averaged so far.
        tensors: Their mean.
    """

    def __init__(self) -> None:
        self.n, self.tensors = 0, list[torch.Tensor]()

    def update(self, tensors: list[torch.Tensor]) -> None:
        """Add one list of tensors [...], of the same length and shapes as those before."""
        self.n += 1
        with torch.no_grad():
            if self.n == 1:
                self.tensors = [t.detach().clone() for t in tensors]
            else:
                torch._foreach_lerp_(self.tensors, [t.detach() for t in tensors], 1 / self.n)
