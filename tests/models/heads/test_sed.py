"""Attention over time against the module of PANNs."""

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F
from torch import nn

from birdnet_fs import models
from birdnet_fs.models.blocks import Backbone
from birdnet_fs.models.heads.sed import AttentionPooling, sed_head

N_CLASSES = 4


class DecisionLevelAttention(nn.Module):
    """What follows the convolutions in PANNs' Cnn14_DecisionLevelAtt, on [batch, width, n_steps]."""

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, width)
        self.att = nn.Conv1d(width, n_classes, kernel_size=1)
        self.cla = nn.Conv1d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x = F.max_pool1d(x, kernel_size=3, stride=1, padding=1) + F.avg_pool1d(x, kernel_size=3, stride=1, padding=1)
        x = F.relu(self.fc1(x.transpose(1, 2))).transpose(1, 2)
        attention, frame_logits = self.att(x), self.cla(x)
        weights = torch.softmax(torch.clamp(attention, -10, 10), dim=-1)
        return attention, weights, frame_logits


def sed_and_its_twin(n_steps: int) -> tuple[keras.Model, DecisionLevelAttention]:
    torch.manual_seed(n_steps)
    twin = DecisionLevelAttention(6, N_CLASSES)
    with torch.no_grad():
        twin.att.weight.mul_(60)  # beyond the clamp
    frames = keras.Input((n_steps, 6))
    model = keras.Model(frames, sed_head(Backbone(frames, frames), N_CLASSES, 0.5))
    for layer, module in (("hidden", twin.fc1), ("attention", twin.att), ("logits", twin.cla)):
        weight = module.weight.detach().numpy().reshape(module.weight.shape[:2])
        model.get_layer(f"frame_{layer}").set_weights([weight.T, module.bias.detach().numpy()])
    return model, twin


@pytest.mark.parametrize("n_steps", [1, 2, 9])
def test_sed_is_the_published_attention(n_steps):
    model, twin = sed_and_its_twin(n_steps)
    x = torch.randn(8, n_steps, 6)
    with torch.no_grad():
        logits, frame_logits = models.with_outputs(model, ["logits", "frame_logits"])(x)
        attention, weights, expected = twin(x.transpose(1, 2))
    assert bool((attention.abs() > 10).any()) and bool((attention.abs() < 10).any())
    torch.testing.assert_close(frame_logits, expected.transpose(1, 2), atol=tolerances.PYTORCH_TWIN, rtol=0)
    torch.testing.assert_close(logits, (weights * expected).sum(2), atol=tolerances.PYTORCH_TWIN, rtol=0)


def test_sed_gives_the_published_probability_where_the_steps_agree():
    model, twin = sed_and_its_twin(5)
    with torch.no_grad():
        twin.fc1.weight.zero_()  # every step is the same
        model.get_layer("frame_hidden").kernel.assign(np.zeros((6, 6)))
        x = torch.randn(3, 5, 6)
        _, weights, frame_logits = twin(x.transpose(1, 2))
        published = (weights * frame_logits.sigmoid()).sum(2)
        torch.testing.assert_close(model(x).sigmoid(), published, atol=tolerances.PYTORCH_TWIN, rtol=0)


def test_a_call_in_one_step_decides_when_attention_finds_it():
    pool = AttentionPooling()
    values = torch.full((1, 30, 1), -5.0)
    values[0, 7] = 5.0
    attention = torch.zeros(1, 30, 1)
    attention[0, 7] = 100.0
    # the clamp: e^10 against 29 steps of e^0
    share = np.exp(10) / (np.exp(10) + 29)
    assert float(pool([attention, values])) == pytest.approx(5 * share - 5 * (1 - share), abs=tolerances.PYTORCH_TWIN)
    assert float(pool([0 * attention, values])) == pytest.approx(-5 + 10 / 30, abs=tolerances.PYTORCH_TWIN)
