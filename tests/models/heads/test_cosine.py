"""Scaled cosines against PyTorch's normalized linear layer."""

import keras
import tolerances
import torch
import torch.nn.functional as F

from birdnet_fs.models.blocks import Backbone
from birdnet_fs.models.heads.cosine import CosineLogits, cosine_head


def test_cosine_is_torchs_normalized_linear_layer():
    x, weight = torch.randn(5, 12) * 7, torch.randn(3, 12)
    inputs = keras.Input((12,))
    model = keras.Model(inputs, cosine_head(Backbone(inputs, inputs), 3, 0.2, scale=30.0))
    model.get_layer("logits").kernel.assign(weight.T)
    with torch.no_grad():
        expected = 30 * F.linear(F.normalize(x), F.normalize(weight))
        torch.testing.assert_close(model(x), expected, atol=tolerances.PYTORCH_TWIN, rtol=0)
        torch.testing.assert_close(model(1000 * x), expected, atol=tolerances.PYTORCH_TWIN, rtol=0)
    assert [w.path.partition("/")[2] for w in model.weights if "seed" not in w.path] == ["kernel"]


def test_cosine_takes_silence_and_float16():
    layer = CosineLogits(3, 30.0)
    layer.build((None, 8))
    silence = torch.zeros(2, 8, requires_grad=True)
    logits = layer.call(silence)
    logits.sum().backward()
    assert bool((logits == 0).all()) and bool(torch.isfinite(silence.grad).all())
    loud = torch.full((1, 8), 500.0, dtype=torch.float16)  # its square is beyond float16
    torch.testing.assert_close(layer.call(loud), layer.call(loud.float()))
