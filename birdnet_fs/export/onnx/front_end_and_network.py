"""Front-end, network, calibration and activation as one torch module, the source of every exported graph."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from birdnet_fs import schema
from birdnet_fs.inference.activations import LEAST_OTHERS, tensor_to_probabilities

Maps = Mapping[str, Sequence[float]]  # "slope" and "offset" of each class


class CalibratedOutput(torch.nn.Module):
    """Calibrated log-odds, or their sigmoid, of logits [batch, n_classes].

    Args:
        maps: "slope" and "offset" of the log-odds of each class.
        activation: "sigmoid" or "softmax", of the logits.
        probabilities: Whether the sigmoid of the log-odds is the output. Default: false.
    """

    slope: Tensor
    offset: Tensor

    def __init__(self, maps: Maps, activation: str, *, probabilities: bool = False) -> None:
        super().__init__()
        self.of_softmax, self.probabilities = activation == "softmax", probabilities
        for name in ("slope", "offset"):
            self.register_buffer(name, torch.tensor(maps[name], dtype=torch.float32))

    def forward(self, logits: Tensor) -> Tensor:
        """The output for logits [batch, n_classes]."""
        x = (tensor_log_odds(logits) if self.of_softmax else logits) * self.slope + self.offset
        return x.sigmoid() if self.probabilities else x


def tensor_log_odds(logits: Tensor) -> Tensor:
    """Log-odds of a softmax [batch, n_classes], with operators of a graph (as `_log_odds` of tflite/wrappers.py)."""
    below = logits - logits.amax(dim=-1, keepdim=True)
    powers = below.exp()
    best = (below >= 0).to(powers.dtype)
    of_best = (powers * (1 - best)).sum(-1, keepdim=True) + (best.sum(-1, keepdim=True) - 1)
    rest = best * of_best + (1 - best) * (powers.sum(-1, keepdim=True) - powers)
    return below - rest.clamp(min=LEAST_OTHERS).log()


class FrontEndAndNetwork(torch.nn.Module):
    """Front-end, network, calibration and activation as one module.

    Args:
        network: Module from features [batch, n_frames, n_mels, n_channels] to one output or a tuple; None returns the
            features.
        spec: Front-end; the module then reads waveforms [batch, n_samples]. None: the module reads features.
        activation: "sigmoid" or "softmax" for the first output; "" for none.
        axes: Axis order of given features: "time_first", or "mel_first" [batch, n_mels, n_frames, n_channels].
        calibrated: Calibration of the first output, in place of the activation. Default: None.
    """

    def __init__(
        self,
        network: torch.nn.Module | None,
        spec: schema.FrontEnd | None,
        activation: str = "",
        axes: str = "time_first",
        calibrated: CalibratedOutput | None = None,
    ) -> None:
        super().__init__()
        self.network, self.spec, self.activation, self.axes = network, spec, activation, axes
        self.calibrated = calibrated

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """All outputs for waveforms [batch, n_samples] or features, the predictions [batch, n_classes] first."""
        from birdnet_fs.frontend.in_keras import log_mel

        if self.spec is not None:
            x = log_mel(x, self.spec, "dft").unsqueeze(-1).expand(-1, -1, -1, self.spec.n_channels)
        elif self.axes == "mel_first":
            x = x.transpose(1, 2)
        if self.network is None:
            return (x,)
        answers = self.network(x)
        first, *others = answers if isinstance(answers, tuple) else (answers,)
        if self.calibrated is not None:
            first = self.calibrated(first)
        elif self.activation:
            first = tensor_to_probabilities(first, self.activation)
        return (first, *others)
