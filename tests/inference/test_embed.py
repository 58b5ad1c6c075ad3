"""Embeddings of clips, items and training clips, against the layer "embedding" of the Keras model."""

from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile as sf
import tolerances

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.embed import Embedder, Item, embed_clips, embedding_width, training_mean_embedding
from birdnet_fs.runs.run import build_network, model_weights, save_run

RATE, N = 8_000, 4_000
SPEC = schema.FrontEnd(
    sample_rate_hz=RATE, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
EXPERIMENT = schema.Experiment(frontend=SPEC, model=schema.Model("cnn/tiny"))
LENGTHS = (1_500, N, 10_000)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_network(EXPERIMENT, 2)


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory: pytest.TempPathFactory) -> Waveforms:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    clips = [Clip(folder / f"{n}.wav", labels=("a",)) for n in LENGTHS]
    for n, clip in zip(LENGTHS, clips, strict=True):
        sf.write(clip.path, rng.uniform(-0.5, 0.5, n).astype(np.float32), RATE, subtype="FLOAT")
    return Waveforms(clips, RATE)


def by_keras(model: keras.Model, windows: np.ndarray) -> np.ndarray:
    """The mean embedding of windows [n, n_samples]."""
    features = network_input(log_mel(windows, SPEC), SPEC)
    return models.with_outputs(model, ["embedding"]).predict(features, verbose=0).mean(0)


def assert_same_embedding(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerances.ENGINE_EMBEDDINGS * np.abs(wanted).max())


def test_a_clip_has_the_mean_embedding_of_its_windows(model: keras.Model, waveforms: Waveforms) -> None:
    found = embed_clips(Embedder(model, SPEC), waveforms, "clips")
    assert found.shape == (3, embedding_width(model)) and found.dtype == np.float32
    long = waveforms[2]
    windows = [np.pad(waveforms[0], (0, N - LENGTHS[0]))[None], waveforms[1][None]]
    windows.append(np.stack([long[start : start + N] for start in range(0, 6_001, N // 2)]))
    for row, each in zip(found, windows, strict=True):
        assert_same_embedding(row, by_keras(model, each))
    repeated = embed_clips(Embedder(model, SPEC), waveforms, "clips", fill="repeat")
    assert_same_embedding(repeated[0], by_keras(model, np.resize(waveforms[0], N)[None]))
    np.testing.assert_array_equal(repeated[1:], found[1:])
    with pytest.raises(UserError, match=r"fill must be one of silence, repeat\. Received: 'loop'"):
        embed_clips(Embedder(model, SPEC), waveforms, "clips", fill="loop")


def test_items_are_clips_or_windows_of_their_halves(model: keras.Model, waveforms: Waveforms) -> None:
    items = [Item(2), Item(2, 0), Item(2, 0, 1, 2), Item(2, 1, 1, 2)]
    found = Embedder(model, SPEC).items(waveforms, items)
    long = waveforms[2]
    for row, start in zip(found[1:], (0, 1_000, 6_000), strict=True):
        assert_same_embedding(row, by_keras(model, long[None, start : start + N]))
    np.testing.assert_array_equal(found[0], embed_clips(Embedder(model, SPEC), waveforms, "clips")[2])


def test_training_mean_is_that_of_the_training_clips(
    model: keras.Model, waveforms: Waveforms, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", EXPERIMENT, ("a", "b"), model_weights(model))
    assert training_mean_embedding(run, model, Embedder(model, run.frontend)).tolist() == [0.0] * embedding_width(model)
    assert "no mean is subtracted from the embeddings" in capsys.readouterr().err
    parts = Partition(Manifest((), ("a", "b"), Ledger(), tmp_path), waveforms.clips[:2], (), waveforms.clips[2:])
    write_partition(run.path / PARTITION, parts)
    wanted = embed_clips(Embedder(model, SPEC), waveforms, "clips")[:2].mean(0)
    np.testing.assert_array_equal(training_mean_embedding(run, model, Embedder(model, run.frontend)), wanted)
