"""The recurrent networks against torch's nn.LSTM and nn.GRU with the same weights, and against arithmetic."""

import keras
import numpy as np
import pytest
import tolerances
import torch
from torch import nn

from birdnet_fs import models
from birdnet_fs.models import rnn

SHAPE = (37, 20, 2)  # frames, mels, channels
TORCH = {"lstm": nn.LSTM, "gru": nn.GRU}


class TorchRNN(nn.Module):
    """As torch users write it: BatchNorm of every band, stacked recurrent layers, mean plus maximum over time."""

    def __init__(self, size: rnn.Size, n_bands: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_bands)
        sides = 1 + size.both_directions
        widths = [n_bands, *[sides * units for units in size.units]]
        self.layers = nn.ModuleList(
            TORCH[size.cell](width, units, batch_first=True, bidirectional=size.both_directions)
            for width, units in zip(widths, size.units, strict=False)
        )

    def forward(self, x):
        x = self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2)
        for layer in self.layers:
            x, _ = layer(x)
        return x, x.mean(1) + x.amax(1)


def gates(tensor: torch.Tensor, cell: str) -> torch.Tensor:
    """Torch's gates along the first axis in Keras' order, transposed: GRU's reset and update change places."""
    if cell == "gru":
        reset, update, new = tensor.chunk(3)
        tensor = torch.cat([update, reset, new])
    return tensor.mT if tensor.dim() == 2 else tensor


def copy_weights(ours: keras.Model, theirs: TorchRNN, size: rnn.Size) -> None:
    by_path = {w.path: w for w in ours.weights}
    for name, tensor in zip(
        ("gamma", "beta", "moving_mean", "moving_variance"),
        (theirs.norm.weight, theirs.norm.bias, theirs.norm.running_mean, theirs.norm.running_var),
        strict=True,
    ):
        by_path.pop(f"input_bn/{name}").assign(tensor.detach())
    for number, layer in enumerate(theirs.layers, 1):
        for side, suffix in (("forward", ""), ("backward", "_reverse"))[: 1 + size.both_directions]:
            path = f"rnn{number}_{size.cell}"
            path = f"rnn{number}_both/{side}_{path}" if size.both_directions else path
            path = f"{path}/{size.cell}_cell"
            w_in, w_back, b_in, b_back = (
                gates(getattr(layer, f"{part}_l0{suffix}").detach(), size.cell)
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            by_path.pop(f"{path}/kernel").assign(w_in)
            by_path.pop(f"{path}/recurrent_kernel").assign(w_back)
            by_path.pop(f"{path}/bias").assign(torch.stack([b_in, b_back]) if size.cell == "gru" else b_in + b_back)
    assert not by_path


def both_outputs(variant: str) -> keras.Model:
    features = keras.Input(SHAPE, name="features")
    made = rnn.backbone(variant, features)
    return keras.Model(features, [made.frames, made.embedding])


@pytest.mark.parametrize("variant", rnn.VARIANTS)
def test_same_answers_as_plain_pytorch_with_the_same_weights(variant):
    torch.manual_seed(0)
    size = rnn.VARIANTS[variant]
    theirs = TorchRNN(size, SHAPE[1] * SHAPE[2]).eval()
    for weight in theirs.parameters():
        nn.init.uniform_(weight, -0.15, 0.15)
    theirs.norm.running_mean.uniform_(-50, -30)
    theirs.norm.running_var.uniform_(50, 200)
    nn.init.uniform_(theirs.norm.weight, 0.5, 1.5)
    ours = both_outputs(variant)
    copy_weights(ours, theirs, size)
    x = torch.randn(3, *SHAPE) * 10 - 40
    with torch.no_grad():
        frames, embedding = ours(x, training=False)
        expected_frames, expected = theirs(x)
    assert float(expected_frames.std()) > 0.05 and float(expected.std()) > 0.05
    assert frames.shape == expected_frames.shape and embedding.shape == expected.shape
    assert float((frames - expected_frames).abs().max()) <= tolerances.PYTORCH_TWIN
    assert float((embedding - expected).abs().max()) <= tolerances.PYTORCH_TWIN


def by_hand(variant: str, n_bands: int, n_classes: int) -> int:
    """Trainable numbers: BatchNorm, gates of input, state and bias (GRU: of both), the last layer."""
    size = rnn.VARIANTS[variant]
    n_gates, n_biases = (4, 1) if size.cell == "lstm" else (3, 2)
    sides = 1 + size.both_directions
    total, width = 2 * n_bands, n_bands
    for units in size.units:
        total += sides * n_gates * units * (width + units + n_biases)
        width = sides * units
    return total + width * n_classes + n_classes


@pytest.mark.parametrize("variant", rnn.VARIANTS)
def test_parameters_are_what_arithmetic_gives(variant):
    """The design's own input: 256 frames of 128 mels, 206 classes."""
    model = models.build(f"rnn/{variant}", input_shape=(256, 128, 1), n_classes=206)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == by_hand(variant, 128, 206)


def test_dropout_stands_between_the_layers():
    model = both_outputs("lstm3")
    rates = {layer.name: layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)}
    assert rates == {"rnn2_dropout": 0.3, "rnn3_dropout": 0.3}
