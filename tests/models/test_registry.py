"""Names, errors, and that asking for names imports no framework."""

import subprocess
import sys

import pytest

from birdnet_fs import models
from birdnet_fs.core.errors import UserError


def build(name="cnn/tiny", **settings):
    return models.build(name, **{"input_shape": (64, 64, 1), "n_classes": 3, **settings})


def test_rows_are_those_of_the_files():
    for family, variants in models.FAMILIES.items():
        module = models.family(family)
        assert tuple(module.VARIANTS) == variants
        assert "http" in module.SOURCE and len(module.MIN_SHAPE) == 2


def test_resolve():
    assert models.resolve("cnn") == "cnn/small"
    assert models.resolve("efficientnet_v2/s") == "efficientnet_v2/s"
    for name, nearest in (
        ("cnn/tini", "cnn/tiny"),
        ("efficientnetv2", "efficientnet_v2"),
        ("efficientnet_v2/b9", "efficientnet_v2/b"),
        ("cnnn", "cnn"),
    ):
        with pytest.raises(UserError, match=f"Did you mean '{nearest}.*Received: '{name}'"):
            models.resolve(name)
    for name in ("", "/", "cnn/", "transformer"):
        with pytest.raises(UserError, match="cnn/small"):
            models.resolve(name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cnn/tini"}, "cnn/tiny"),
        ({"input_shape": (64, 64)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (1, 64, 64, 1)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (64, 64, 0)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (None, 64, 1)}, "n_frames, n_mels, n_channels"),
        ({"input_shape": (1, 64, 64)}, "at least 16 frames"),  # channels first
        ({"input_shape": (64, 15, 1)}, "at least 16 frames x 16 mels"),
        ({"name": "efficientnet_v2", "input_shape": (64, 31, 1)}, "at least 32 frames x 32 mels"),
        ({"n_classes": 0}, "n_classes must be 1 or more"),
    ],
)
def test_faults_are_told(settings, message):
    with pytest.raises(UserError, match=message):
        build(**settings)


def test_the_smallest_input_is_enough_for_each_family():
    for name in (*models.FAMILIES, "cnn/large"):
        shape = (*models.family(name).MIN_SHAPE, 2)
        assert build(name, input_shape=shape).output_shape == (None, 3)


def test_names_cost_no_framework():
    code = (
        "import sys; from birdnet_fs import models; models.names(); models.resolve('cnn');"
        "sys.exit(any(name in sys.modules for name in ('keras', 'torch', 'tensorflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
