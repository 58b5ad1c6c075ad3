"""Explicit zeros in place of padding "same": the same numbers at every size, and only where they are needed."""

import keras
import numpy as np
import pytest
import tolerances
import torch
from keras import layers

from birdnet_fs.export.tflite.same_padding import with_explicit_padding


@pytest.mark.parametrize("kind", [layers.Conv2D, layers.DepthwiseConv2D])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 3), (2, 5), (3, 4), ((5, 2), (6, 6))])
def test_explicit_padding_matches_at_every_size(kind, kernel, stride):
    for n in range(6, 19):
        x = keras.Input((n, 24 - n, 2))
        settings = {"strides": stride, "padding": "same", "name": "skips"}
        y = kind(3, kernel, **settings)(x) if kind is layers.Conv2D else kind(kernel, **settings)(x)
        model = keras.Model(x, {"answer": keras.layers.ReLU()(y)})
        new = with_explicit_padding(model)
        given = torch.from_numpy(np.random.default_rng(n).normal(0, 1, (2, n, 24 - n, 2)).astype("float32"))
        with torch.no_grad():
            assert torch.allclose(new(given)["answer"], model(given)["answer"], rtol=0, atol=tolerances.EXPLICIT_ZEROS)
        inside = [layer for part in new.layers if isinstance(part, keras.Model) for layer in part.layers]
        assert [layer.padding for layer in inside if isinstance(layer, kind)] == ["valid"]


def test_other_convolutions_are_unchanged():
    x = keras.Input((16, 16, 2))
    y = layers.Conv2D(3, 3, padding="same")(x)
    y = layers.Conv2D(3, 1, 2, padding="same")(y)  # a kernel of 1 was right
    y = layers.DepthwiseConv2D(3, 3, padding="same")(y)
    model = keras.Model(x, layers.Conv2D(3, 2, 4, padding="valid")(y))
    assert with_explicit_padding(model) is model
    inside = keras.Model(x, keras.Model(x, layers.Conv2D(3, 2, 4, padding="same")(x))(x))
    assert with_explicit_padding(inside) is not inside
