"""The opened head of a run on an encoder, and the embeddings that few-shot methods compare."""

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
from installed import need

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import embed_clips
from birdnet_fs.inference.encoder_features import EncoderFeatures
from birdnet_fs.inference.encoder_run import open_head, run_embedder
from birdnet_fs.runs.run import build_network, load_run, model_weights, save_run
from birdnet_fs.training.trainer import train

need("onnxruntime")

ATOL = 1e-5  # float32 sums of 32 products of size 1, with a margin of 10


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder_run")
    root = encoder_runs.write_recordings(folder / "recordings", 3)
    file, card = encoder_runs.write_encoder(folder / "encoder")
    return root, train(encoder_runs.experiment(file, card, root), folder / "run")


def test_the_head_scores_embeddings_as_keras_does(place):
    _, run = place
    head = open_head(load_run(run.path))
    x = np.random.default_rng(0).uniform(0, 2, (5, encoder_runs.WIDTH)).astype(np.float32)
    logits = run.build_model().predict(x, verbose=0)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(head.probabilities(x), expected, atol=ATOL)
    assert (head.width, head.classes) == (encoder_runs.WIDTH, encoder_runs.KINDS)
    assert head.identity_of_encoder == head.encoders.encoders[0].identity


def test_a_network_has_no_head_on_an_encoder(tmp_path):
    spec = schema.FrontEnd(sample_rate_hz=16_000, segment_s=0.5, n_mels=32, fmax_hz=8000)
    experiment = schema.Experiment(frontend=spec, model=schema.Model("cnn/tiny"))
    run = save_run(tmp_path / "run", experiment, ("a", "b"), model_weights(build_network(experiment, 2)))
    with pytest.raises(UserError, match=r"is a network of its own, not a head on an encoder"):
        open_head(run)


def test_embeddings_of_clips_are_means_of_the_transformed_and_are_kept(place, monkeypatch):
    root, run = place
    clips = [Clip(root / "owl" / f"owl{i}.wav") for i in range(2)]
    waveforms, model = Waveforms(clips, encoder_runs.RATE_HZ), run.build_model()
    found = embed_clips(run_embedder(run, model), waveforms, "clips")
    center, scale = (weight.numpy() for weight in model.get_layer("embedding").weights)
    n, hop = encoder_runs.N_SAMPLES, encoder_runs.N_SAMPLES // 2
    for i, row in enumerate(found):
        windows = np.stack([waveforms[i][j : j + n] for j in range(0, len(waveforms[i]) - n + 1, hop)])
        embeddings = np.sqrt(foreign_encoders.embedding(windows, encoder_runs.WIDTH))
        np.testing.assert_allclose(row, ((embeddings - center) * scale).mean(0), atol=1e-4)  # square roots near 0
    monkeypatch.setattr(EncoderFeatures, "features", None)  # calling it fails
    np.testing.assert_array_equal(embed_clips(run_embedder(run, model), waveforms, "clips"), found)
