"""The table of networks, and the cost it gives against a count by hand."""

import keras
import pytest

from birdnet_fs.cli.models import gflop
from birdnet_fs.cli.models import models as verb
from birdnet_fs.core.errors import UserError
from birdnet_fs.schema.networks import Family, names


def test_gflop_equals_a_count_by_hand():
    inputs = keras.Input((10, 8, 4))
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="c")(inputs)  # 5 x 4 cells
    x = keras.layers.DepthwiseConv2D(3, padding="valid", name="d")(x)  # 3 x 2 cells
    x = keras.layers.Conv2D(6, 1, groups=3, name="g")(x)
    x = keras.layers.Dense(5, name="f")(keras.layers.Flatten(name="flat")(x))
    multiplications = 5 * 4 * 9 * 4 * 6 + 3 * 2 * 9 * 6 + 3 * 2 * 2 * 6 + 36 * 5
    assert gflop(keras.Model(inputs, x)) == pytest.approx(2e-9 * multiplications)


def test_models_prints_one_row_per_network(capsys, monkeypatch):
    few = {"cnn": Family({"small": 192, "tiny": 48}), "efficientnet_v2": Family({"b0": 1280})}
    monkeypatch.setattr("birdnet_fs.schema.networks.FAMILIES", few)
    verb(shape="501x128", n_classes=206)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names()
    b0 = lines[-1].split()
    assert b0[1] == f"{5_918_736 + 1280 * 206 + 206:,}" and "arxiv.org/abs/2104.00298" in lines[-1]
    verb(shape="20x20x3", n_classes=2)  # too small for EfficientNet: the row stays, without numbers
    assert capsys.readouterr().out.splitlines()[-1].split()[1] == "-"


@pytest.mark.parametrize("shape", ["501", "501,128", "0x128", "ax128", "1x2x3x4", ""])
def test_models_refuses_wrong_shapes(shape):
    with pytest.raises(UserError, match="--input must be"):
        verb(shape=shape, n_classes=2)
