"""Front-end, network and activation as one torch module, the source of every exported graph."""

import torch
from torch import Tensor

from birdnet_fs import schema
from birdnet_fs.inference.activations import tensor_to_probabilities


class FrontEndAndNetwork(torch.nn.Module):
    """Front-end, network and activation as one module.

    Args:
        network: Module from features [batch, n_frames, n_mels, n_channels] to one output or a tuple; None returns the
            features.
        spec: Front-end; the module then reads waveforms [batch, n_samples]. None: the module reads features.
        activation: "sigmoid" or "softmax" for the first output; "" for none.
        axes: Axis order of given features: "time_first", or "mel_first" [batch, n_mels, n_frames, n_channels].
    """

    def __init__(
        self,
        network: torch.nn.Module | None,
        spec: schema.FrontEnd | None,
        activation: str = "",
        axes: str = "time_first",
    ) -> None:
        super().__init__()
        self.network, self.spec, self.activation, self.axes = network, spec, activation, axes

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
        if self.activation:
            first = tensor_to_probabilities(first, self.activation)
        return (first, *others)
