"""Parts of several families: padding against PyTorch, stochastic depth, LayerScale, means over bands."""

import keras
import numpy as np
import pytest
import tolerances
import torch
import torch.nn.functional as F

from birdnet_fs.models.blocks import LayerScale, add_branch, block_name, block_place, mean_over_bands, padded_as_torch


@pytest.mark.parametrize("shape", [(9, 8), (8, 9), (6, 6)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_padded_as_torch_gives_the_convolution_of_torch(kernel: int, stride: int, shape: tuple[int, int]) -> None:
    inputs = keras.Input((*shape, 2))
    x, padding = padded_as_torch(inputs, kernel, stride, "c")
    model = keras.Model(inputs, keras.layers.Conv2D(3, kernel, stride, padding=padding, name="c_conv")(x))
    x = torch.randn((2, *shape, 2), generator=torch.Generator().manual_seed(0))
    weight, bias = (value.value for value in model.get_layer("c_conv").weights)
    with torch.no_grad():
        expected = F.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), bias, stride, kernel // 2)
        torch.testing.assert_close(model(x), expected.permute(0, 2, 3, 1), atol=tolerances.PYTORCH_TWIN, rtol=0)


def test_add_branch_drops_the_branch_of_whole_segments_in_training() -> None:
    inputs = keras.Input((4, 3))
    model = keras.Model(inputs, add_branch(inputs, inputs, 0.25, "block"))
    assert [layer.name for layer in model.layers[1:]] == ["block_stochastic_depth", "block_add"]
    torch.manual_seed(0)
    x = torch.ones(400, 4, 3)
    rows = model(x, training=True).detach().reshape(400, -1)
    assert bool((rows == rows[:, :1]).all())
    kept = rows[:, 0] > 1
    torch.testing.assert_close(rows[kept], torch.full_like(rows[kept], 1 + 1 / 0.75))
    assert bool((rows[~kept] == 1).all()) and 0.15 < float((~kept).float().mean()) < 0.35
    assert bool((model(x, training=False) == 2).all())


def test_add_branch_without_drop_is_a_sum() -> None:
    inputs = keras.Input((4, 3))
    assert [layer.name for layer in keras.Model(inputs, add_branch(inputs, inputs, 0.0, "b")).layers[1:]] == ["b_add"]


def test_layer_scale_multiplies_each_channel() -> None:
    layer = LayerScale(0.5)
    x = torch.ones(2, 3, 4)
    assert bool((layer(x) == 0.5).all())
    layer.gamma.assign([1.0, 2.0, 3.0, 4.0])
    assert np.array_equal(layer(x).detach().numpy()[0, 0], [1, 2, 3, 4])
    assert LayerScale.from_config(layer.get_config()).initial == 0.5


def test_mean_over_bands_keeps_time_and_width() -> None:
    inputs = keras.Input((5, 4, 3))
    model = keras.Model(inputs, mean_over_bands(inputs))
    x = torch.randn(2, 5, 4, 3)
    torch.testing.assert_close(model(x), x.mean(2))


def test_block_names_have_letters_only_and_are_read_back() -> None:
    names = [block_name(3, repeat) for repeat in range(60)]
    assert names[:2] == ["block3a", "block3b"] and names[25:28] == ["block3z", "block3aa", "block3ab"]
    assert [block_place(name) for name in names] == [(3, repeat) for repeat in range(60)]
    assert [block_place(name) for name in ("stem", "block3", "down2", "block3{")] == [None] * 4
