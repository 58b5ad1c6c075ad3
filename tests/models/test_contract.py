"""One contract for every network: shapes, names, gradients, learning, saving, batches, both backends."""

import itertools
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tolerances
import torch

from birdnet_fs import models
from birdnet_fs.models.lowering import lower

SHAPE, N_CLASSES = (48, 40, 1), 4
FAST = ("cnn/small", "cnn/tiny", "efficientnet_v2/b0")
EVERY = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in models.names()]


def by_hand(stem: int, *blocks: int) -> int:
    """Trainable numbers of a cnn: bn0, convolutions of 3x3 and 1x1, 2 for each channel of a BatchNorm, logits."""
    total = 2 * 2 + 9 * 2 * stem + 2 * stem
    for n_in, n_out in itertools.pairwise((stem, *blocks)):
        total += 9 * n_in * n_out + 9 * n_out * n_out + n_in * n_out + 3 * 2 * n_out
    return total + blocks[-1] * N_CLASSES + N_CLASSES


def build(name: str, **settings) -> keras.Model:
    keras.utils.set_random_seed(0)
    return models.build(name, input_shape=SHAPE, n_classes=N_CLASSES, **settings)


def decibels(n: int, seed: int = 0) -> torch.Tensor:
    """Features as a front-end without normalisation gives them."""
    return torch.randn((n, *SHAPE), generator=torch.Generator().manual_seed(seed)) * 10 - 40


def settled(model: keras.Model) -> keras.Model:
    """Moving statistics that fit the features; without them a deep fresh network magnifies every rounding."""
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    with torch.no_grad():
        model(decibels(16), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


@pytest.mark.parametrize("name", EVERY)
def test_shapes_names_and_dtype(name):
    model = build(name)
    assert model.inputs[0].name == "features" and model.input_shape == (None, *SHAPE)
    assert model.output_shape == (None, N_CLASSES)
    assert model.layers[-1].name == "logits" and model.layers[-1].activation is keras.activations.linear
    assert len(model.get_layer("embedding").output.shape) == 2
    logits = model(decibels(3))
    assert logits.shape == (3, N_CLASSES) and logits.dtype == torch.float32
    names = [layer.name for layer in model.layers]
    paths = [weight.path for weight in model.weights]
    assert len(set(names)) == len(names) and len(set(paths)) == len(paths)
    again = build(name)
    assert [layer.name for layer in again.layers] == names and [weight.path for weight in again.weights] == paths
    lowered = lower(model)
    assert lowered.fallback == "" and lowered.slow_layers == []


@pytest.mark.parametrize("name", EVERY)
def test_every_trainable_variable_gets_a_finite_gradient_and_16_segments_are_learnt(name):
    model = build(name, dropout=0.0)
    lowered = lower(model)
    x, labels = decibels(16), torch.arange(16) % N_CLASSES
    for i, label in enumerate(labels):  # a tone of 20 dB in another band for each class
        x[i, 10:30, 8 * label + 4] += 20
    optimizer = torch.optim.AdamW([w.value for w in model.trainable_weights], 2e-3)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(lowered(x, training=True), labels)
        loss.backward()
        for weight in model.trainable_weights:
            assert weight.value.grad is not None and bool(torch.isfinite(weight.value.grad).all()), weight.path
            if not losses:
                assert float(weight.value.grad.abs().max()) > 0, weight.path
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.5 * losses[0], losses


@pytest.mark.parametrize("name", EVERY)
def test_a_segment_scores_the_same_in_any_batch(name):
    model = settled(build(name))
    x = decibels(7)
    with torch.no_grad():
        together = model(x, training=False)
        alone = torch.cat([model(x[i : i + 1], training=False) for i in range(7)])
    assert float((together - alone).abs().max() / together.abs().max()) <= tolerances.BATCH_NEIGHBOURS


@pytest.mark.parametrize("name", EVERY)
def test_weights_carry_a_network_into_a_fresh_build_and_through_a_file(name, tmp_path):
    model = settled(build(name))
    keras.utils.set_random_seed(1)
    fresh = models.build(name, input_shape=SHAPE, n_classes=N_CLASSES)
    x = decibels(2)
    with torch.no_grad():
        expected = model(x, training=False)
        assert not torch.equal(fresh(x, training=False), expected)
        by_path = {weight.path: weight.numpy() for weight in model.weights}
        for weight in fresh.weights:
            weight.assign(by_path[weight.path])
        assert torch.equal(fresh(x, training=False), expected)
        model.save(tmp_path / "m.keras")
        assert torch.equal(keras.models.load_model(tmp_path / "m.keras")(x, training=False), expected)


TENSORFLOW = """
import sys, numpy as np, keras
from birdnet_fs import models
folder, names = sys.argv[1], sys.argv[2:]
x = np.load(folder + "/x.npy")
for i, name in enumerate(names):
    model = keras.models.load_model(f"{folder}/{i}.keras")
    np.save(f"{folder}/{i}.npy", model.predict(x, verbose=0))
    built = models.build(name, input_shape=x.shape[1:], n_classes=4)
    print(keras.backend.backend(), *[weight.path for weight in built.weights])
"""


def same_on_tensorflow(names, folder):
    x = decibels(4).numpy()
    np.save(folder / "x.npy", x)
    expected = []
    for i, name in enumerate(names):
        model = settled(build(name))
        model.save(folder / f"{i}.keras")
        with torch.no_grad():
            expected.append((model(torch.as_tensor(x), training=False).numpy(), [w.path for w in model.weights]))
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    run = subprocess.run(
        [sys.executable, "-c", TENSORFLOW, str(folder), *names], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines() if line.startswith("tensorflow")]
    for i, (logits, paths) in enumerate(expected):
        assert lines[i][1:] == paths  # also: names are the same in a fresh process
        error = np.abs(np.load(folder / f"{i}.npy") - logits).max() / np.abs(logits).max()
        assert error <= tolerances.BACKENDS, names[i]


def test_torch_and_tensorflow_agree(tmp_path):
    pytest.importorskip("tensorflow")
    same_on_tensorflow(FAST, tmp_path)


@pytest.mark.slow
def test_torch_and_tensorflow_agree_on_the_big_ones(tmp_path):
    pytest.importorskip("tensorflow")
    same_on_tensorflow([name for name in models.names() if name not in FAST], tmp_path)


@pytest.mark.parametrize(
    ("name", "trainable"), [("cnn/tiny", by_hand(16, 24, 32, 48)), ("cnn/small", by_hand(24, 48, 96, 192))]
)
def test_the_cnn_has_the_parameters_that_arithmetic_gives(name, trainable):
    assert sum(int(np.prod(weight.shape)) for weight in build(name).trainable_weights) == trainable


def test_the_cnn_sees_events_over_a_stationary_background():
    """The second channel of `bands` is the features without each band's mean: a steady hum leaves no trace in it."""
    model = build("cnn/tiny")
    bands = keras.Model(model.input, model.get_layer("bands").output)
    x = decibels(2)
    hum = x + torch.linspace(-20, 20, SHAPE[1]).reshape(1, 1, -1, 1)
    quiet, loud = bands(x), bands(hum)
    assert torch.equal(quiet[..., 0], x[..., 0])
    assert float((quiet[..., 1] - loud[..., 1]).abs().max()) < tolerances.DECIBELS_FLOAT32
    assert float((quiet[..., 1] - (x - x.mean(1, keepdim=True))[..., 0]).abs().max()) < tolerances.DECIBELS_FLOAT32
