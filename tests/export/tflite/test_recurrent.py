"""Recurrent layers in their exported form match Keras, in every run of a file."""

from pathlib import Path

import numpy as np
import preloaded
import pytest
import tolerances
from installed import need
from on_runtime import run_tflite

SIZES = {  # (cell, units, both directions)
    "lstm": ("lstm", (256, 256, 128), False),  # as wide as what it reads: what went wrong
    "gru": ("gru", (64, 64), False),
    "both": ("lstm", (16, 16), True),
    "both_gru": ("gru", (16, 8), True),
}
WORK = """
import sys, numpy as np, keras
from pathlib import Path
from birdnet_fs import models
from birdnet_fs.models import rnn
from birdnet_fs.export.tflite.recurrent import with_hoisted_inputs
from birdnet_fs.export.tflite.convert import convert_model
folder, sizes = Path(sys.argv[1]), eval(sys.argv[2])
x = np.load(folder / "x.npy")
dense = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
assert with_hoisted_inputs(dense) is dense
for name, size in sizes.items():
    rnn.VARIANTS["lstm"] = rnn.Size(*size)
    model = models.build("rnn/lstm", input_shape=(48, 40, 1), n_classes=3)
    rng = np.random.default_rng(1)
    model.set_weights([w + rng.uniform(-0.05, 0.05, w.shape) for w in model.get_weights()])  # no bias is zero
    np.save(folder / f"{name}.keras.npy", model(x, training=False))
    np.save(folder / f"{name}.hoisted.npy", with_hoisted_inputs(model)(x, training=False))
    inside = keras.Model(model.input, model(model.input))  # behind a front-end it is a layer of a model
    np.save(folder / f"{name}.inside.npy", with_hoisted_inputs(inside)(x, training=False))
    convert_model(inside, (1, 48, 40, 1), "features", folder / f"{name}.tflite")
odd = keras.Sequential([keras.Input((4, 3)), keras.layers.LSTM(2, activation="relu", name="odd")])
try:
    with_hoisted_inputs(odd)
except ValueError as error:
    (folder / "odd.txt").write_text(str(error))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    need("tensorflow")
    place = tmp_path_factory.mktemp("recurrent")
    np.save(place / "x.npy", np.random.default_rng(0).normal(-40, 20, (5, 48, 40, 1)).astype("float32"))
    run = preloaded.run_python(["-c", WORK, place, repr(SIZES)])
    assert run.returncode == 0, run.stderr
    return place


@pytest.mark.parametrize("name", SIZES)
def test_hoisted_layers_match_keras(folder, name):
    expected = np.load(folder / f"{name}.keras.npy")
    assert np.ptp(expected, axis=0).max() > 0.01  # it listens
    for form in ("hoisted", "inside"):
        found = np.load(folder / f"{name}.{form}.npy")
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.BACKENDS * np.abs(expected).max())


@pytest.mark.parametrize("name", SIZES)
def test_runtime_is_right_in_every_run(folder, name):
    """Five rows one after another in one interpreter; from the second on the runtime was wrong, with stale memory."""
    expected = np.load(folder / f"{name}.keras.npy")
    (found,) = run_tflite(folder / f"{name}.tflite", folder / "x.npy", folder / f"{name}.npz")
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.BACKENDS * np.abs(expected).max())


def test_layers_with_other_activations_are_refused(folder):
    assert "odd (LSTM) must be an LSTM or GRU with default activations" in (folder / "odd.txt").read_text()
