"""Small networks of keras.applications and files of their weights."""

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pytest
from image_networks import (
    STAGES,
    legacy,
    varied,
)
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.efficientnet_v2 import EfficientNetV2

from birdnet_fs.models import convnext, efficientnet_v2


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (4, 64, 64, 3)).astype(np.float32)


@pytest.fixture
def small_stages(monkeypatch) -> None:
    """Our B0 of the size of STAGES."""
    size = efficientnet_v2.Size(tuple(efficientnet_v2.Stage(*row) for row in STAGES), stem=8)
    monkeypatch.setitem(efficientnet_v2.VARIANTS, "b0", size)


@pytest.fixture
def small_efficientnet(small_stages, pictures) -> keras.Model:
    """keras.applications' B0 of the size of STAGES."""
    names = ("conv_type", "expand_ratio", "output_filters", "num_repeat", "strides")
    rows = [dict(zip(names, row, strict=True)) for row in STAGES]
    for row, n_in in zip(rows, (8, *(row["output_filters"] for row in rows)), strict=False):
        row |= {"conv_type": int(row["conv_type"]), "kernel_size": 3, "input_filters": n_in}
        row["se_ratio"] = 0 if row["conv_type"] else 0.25
    keras.utils.set_random_seed(0)
    options = {"include_top": False, "weights": None, "input_shape": (64, 64, 3), "pooling": "avg"}
    return varied(EfficientNetV2(1.0, 1.0, 64, blocks_args=rows, name="efficientnetv2-b0", **options), pictures)


@pytest.fixture
def small_convnext(monkeypatch, pictures) -> keras.Model:
    """keras.applications' ConvNeXt, and ours of the same size."""
    size = dataclasses.replace(convnext.VARIANTS["tiny"], n_blocks=(1, 1, 2, 1), channels=(8, 12, 16, 24))
    monkeypatch.setitem(convnext.VARIANTS, "tiny", size)
    keras.utils.set_random_seed(0)
    options = {"include_top": False, "input_shape": (64, 64, 3), "pooling": "avg"}
    return varied(ConvNeXt(size.n_blocks, size.channels, name="convnext_tiny", **options), pictures)


@pytest.fixture
def saved(small_efficientnet, tmp_path) -> Path:
    return legacy(small_efficientnet, tmp_path / "w.h5")
