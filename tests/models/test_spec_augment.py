"""SpecAugment against the random law of torchlibrosa, on torch and TensorFlow."""

import numpy as np
import preloaded
import tolerances
import torch
from installed import need
from narrow_panns import decibels, narrow

from birdnet_fs import models
from birdnet_fs.models import panns
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.models.spec_augment import SpecAugment


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
    run = preloaded.run_python(["-c", TENSORFLOW, tmp_path / "x.npy", tmp_path / "y.npy"])
    assert run.returncode == 0, run.stderr
    check_law(x, np.load(tmp_path / "y.npy"))
