"""PANNs against plain PyTorch with the same weights, against the published counts, and SpecAugment against its law."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tolerances
import torch
from installed import need
from narrow_panns import decibels, narrow
from reference_panns import CNN14, MOBILENET_V1, MOBILENET_V2, NETWORKS, Panns, with_fitting_statistics
from torch import nn

from birdnet_fs import models
from birdnet_fs.models import panns
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.spec_augment import SpecAugment

COUNTS = {"cnn14": 80_753_615, "mobilenet_v1": 4_796_303, "mobilenet_v2": 4_075_343}  # published, 527 classes


def copied(network: Panns, model: keras.Model) -> keras.Model:
    """The weights of a PyTorch twin by order: convolutions, norms and dense layers stand in the same order in both."""
    layers = {
        nn.Conv2d: [layer for layer in model.layers if "Conv2D" in type(layer).__name__],
        nn.BatchNorm2d: [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)],
        nn.Linear: [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)],
    }
    for kind, ours in layers.items():
        theirs = [module for module in network.modules() if type(module) is kind]
        for layer, module in zip(ours, theirs, strict=True):
            if kind is nn.BatchNorm2d:
                layer.set_weights([module.weight, module.bias, module.running_mean, module.running_var])
            elif kind is nn.Linear:
                layer.set_weights([module.weight.T, module.bias])
            else:
                depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
                layer.set_weights([module.weight.permute(2, 3, *((0, 1) if depthwise else (1, 0)))])
    return model


@pytest.mark.parametrize("n_frames, n_mels", [(67, 37), (32, 33)])
@pytest.mark.parametrize(
    "variant, width",
    [
        *(("cnn14", 8), ("mobilenet_v1", 8), ("mobilenet_v2", 4)),
        *(pytest.param(variant, 1, marks=pytest.mark.slow) for variant in NETWORKS),
    ],
)
def test_same_answers_as_plain_pytorch(variant, width, n_frames, n_mels, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setitem(panns.VARIANTS, variant, narrow(variant, width))
    x = decibels(4, n_frames, n_mels)
    network = with_fitting_statistics(NETWORKS[variant](n_mels, 5, width), x)
    model = models.build(f"panns/{variant}", input_shape=(n_frames, n_mels, 1), n_classes=5)
    copied(network, model)
    embedded = keras.Model(model.input, model.get_layer("embedding").output)
    with torch.no_grad():
        pairs = [(model(x, training=False), network(x)), (embedded(x, training=False), network.embedding(x))]
    for got, expected in pairs:
        assert float(expected.std()) > 0.01
        assert float((got - expected).abs().max()) <= tolerances.PYTORCH_TWIN * max(1.0, float(expected.abs().max()))


def by_hand(variant: str) -> int:
    """Trainable numbers: kernels without bias, 2 for each channel of a BatchNorm, two dense layers with bias."""
    total, n_in = 2 * 64, 1  # bn0 of 64 mels
    if variant == "cnn14":
        for n_out in CNN14:
            total += 9 * n_in * n_out + 9 * n_out * n_out + 2 * 2 * n_out
            n_in = n_out
        return total + (2048 + 1) * 2048 + (2048 + 1) * 527
    total, n_in = total + 9 * 32 + 2 * 32, 32
    if variant == "mobilenet_v1":
        for n_out, _ in MOBILENET_V1:
            total += 9 * n_in + 2 * n_in + n_in * n_out + 2 * n_out
            n_in = n_out
        return total + (1024 + 1) * 1024 + (1024 + 1) * 527
    for expand, n_out, n_blocks, _ in MOBILENET_V2:
        for _ in range(n_blocks):
            inside = n_in * expand
            total += (n_in * inside + 2 * inside if expand > 1 else 0) + 9 * inside + 2 * inside
            total += inside * n_out + 2 * n_out
            n_in = n_out
    return total + 320 * 1280 + 2 * 1280 + (1280 + 1) * 1024 + (1024 + 1) * 527


@pytest.mark.parametrize("variant", COUNTS)
def test_published_parameter_counts(variant):
    """The published numbers count what is trained: neither moving statistics (torch's buffers, Keras' count_params
    has them) nor the front-end, whose STFT and mel kernels are Parameters there, but frozen."""
    model = models.build(f"panns/{variant}", input_shape=(101, 64, 1), n_classes=527)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    with torch.device("meta"):
        network = NETWORKS[variant]()
    assert trainable == by_hand(variant) == sum(p.numel() for p in network.parameters()) == COUNTS[variant]
    n_normalized = sum(norm.num_features for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))
    assert model.count_params() == trainable + 2 * n_normalized


@pytest.mark.parametrize(
    ("variant", "rates"), [("cnn14", [*[0.2] * 6, 0.5]), ("mobilenet_v1", [0.5]), ("mobilenet_v2", [])]
)
def test_dropout_and_spec_augment_are_the_published_ones(variant, rates, monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, variant, narrow(variant, 4))
    model = models.build(f"panns/{variant}", input_shape=(64, 64, 1), n_classes=2, dropout=0.125)
    drops = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert drops == [*rates, 0.125]
    masks = model.get_layer("spec_augment")
    assert (masks.time_drop_width, masks.n_time_stripes, masks.mel_drop_width, masks.n_mel_stripes) == (64, 2, 8, 2)
    assert [layer.name for layer in model.layers][1:3] == ["bn0", "spec_augment"]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.9)}


# ---------------------------------------------------------------- SpecAugment


def dropped_by_loop(n: int, length: int, drop_width: int, n_stripes: int) -> np.ndarray:
    """Stripes as torchlibrosa draws them, sample by sample; True where a cell is dropped [n, length]."""
    rng = np.random.default_rng(0)
    dropped = np.zeros((n, length), bool)
    for sample in dropped:
        for _ in range(n_stripes):
            width = rng.integers(drop_width)
            start = rng.integers(length - width)
            sample[start : start + width] = True
    return dropped


def stripes(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dropped frames [n, n_frames] and bands [n, n_mels]; fails where anything else was changed."""
    gone = y[..., 0] == 0
    frames, bands = gone.all(2), gone.all(1)
    assert np.array_equal(gone, frames[:, :, None] | bands[:, None, :])
    assert np.array_equal(y, np.where(gone[..., None], 0, x)) and (x != 0).all()
    return frames, bands


def runs(row: np.ndarray) -> list[int]:
    """Lengths of the runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
    return (edges[1::2] - edges[::2]).tolist()


def check_law(x: np.ndarray, y: np.ndarray) -> None:
    """Two stripes of time below 64 frames and two of frequency below 8 bands, as often in each place as by the loop."""
    for dropped, drop_width in zip(stripes(x, y), (64, 8), strict=True):
        n, length = dropped.shape
        expected = dropped_by_loop(10_000, length, drop_width, 2)
        error = np.sqrt(expected.mean(0) * (1 - expected.mean(0)) / n) + 1e-9
        assert np.abs((dropped.mean(0) - expected.mean(0)) / error).max() <= tolerances.STRIPE_ERRORS
        widths = [run for row in dropped for run in runs(row)]
        assert max(widths) <= 2 * (drop_width - 1) and min(widths) == 1
        assert max(len(runs(row)) for row in dropped) == 2
        assert len({row.tobytes() for row in dropped}) > n // 4  # each sample has its own


def test_stripes_follow_the_published_law():
    torch.manual_seed(0)
    x = torch.rand(2000, 256, 32, 2) + 1
    y = SpecAugment()(x, training=True)
    assert y.dtype == x.dtype
    check_law(x.numpy(), y.numpy())
    assert SpecAugment()(x, training=False) is x


def test_stripes_are_seeded_and_fit_short_segments():
    layer = SpecAugment(time_drop_width=5, n_time_stripes=1, mel_drop_width=3, n_mel_stripes=4)
    assert SpecAugment.from_config(layer.get_config()).get_config() == layer.get_config()
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(layer(torch.ones(8, 20, 10, 1), training=True))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    x = torch.rand(500, 12, 3, 1) + 1
    frames, bands = stripes(x.numpy(), SpecAugment(n_time_stripes=1)(x, training=True).numpy())
    assert set(frames.sum(1)) == {0, 1, 2} and not bands.any()  # less than a quarter of an axis, whatever the width
    half = SpecAugment().call(torch.ones(2, 9, 9, 1, dtype=torch.bfloat16), training=True)
    assert half.dtype == torch.bfloat16  # under autocast


def test_lowered_training_draws_stripes_and_keeps_gradients(monkeypatch):
    monkeypatch.setitem(panns.VARIANTS, "mobilenet_v2", narrow("mobilenet_v2", 4))
    model = models.build("panns/mobilenet_v2", input_shape=(64, 64, 1), n_classes=2, dropout=0.0)
    lowered, x = lower(model), decibels(4, 64, 64)
    with torch.no_grad():
        assert torch.equal(lowered(x), lowered(x))
        assert not torch.equal(lowered(x, training=True), lowered(x, training=True))
    lowered(x, training=True).square().sum().backward()
    assert all(float(weight.value.grad.abs().max()) > 0 for weight in model.trainable_weights)


TENSORFLOW = """
import sys, numpy as np, keras, tensorflow as tf
from birdnet_fs.models.spec_augment import SpecAugment
keras.utils.set_random_seed(0)
layer, x = SpecAugment(), np.load(sys.argv[1])
train = tf.function(lambda x: layer(x, training=True))
first, second = train(x).numpy(), train(x).numpy()
assert not (first == second).all() and (layer(x).numpy() == x).all()
np.save(sys.argv[2], first)
"""


def test_stripes_on_tensorflow(tmp_path):
    need("tensorflow")
    x = np.random.default_rng(0).random((2000, 256, 32, 1), np.float32) + 1
    np.save(tmp_path / "x.npy", x)
    run = subprocess.run(
        [sys.executable, "-c", TENSORFLOW, str(tmp_path / "x.npy"), str(tmp_path / "y.npy")],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    check_law(x, np.load(tmp_path / "y.npy"))
