"""Embeddings of windows by a run, an exported file and a foreign encoder, each against the network behind it."""

import hashlib
import json

import embedding_store
import foreign_encoders
import keras
import numpy as np
import pytest
import tolerances
from installed import need

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.runs.run import build_network, model_weights, save_run

need("onnx")
SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.4, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
WIDTH = 12


def windows(n: int, n_samples: int) -> np.ndarray:
    return (np.random.default_rng(n).normal(size=(n, n_samples)) * 0.1 + 0.05).astype(np.float32)


@pytest.fixture
def artifact(tmp_path):
    """An exported file that reads waveforms and gives embeddings, with its sidecar."""
    names = ("label:predictions", "embedding:embeddings")
    file = foreign_encoders.write_onnx(tmp_path / "model.onnx", SPEC.n_samples, WIDTH, outputs=names, n_scores=2)
    write_sidecar(file)
    return file


def write_sidecar(file, **changes) -> None:
    about = {
        "format": 1,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "classes": ["a", "b"],
        "sample_rate_hz": SPEC.sample_rate_hz,
        "segment_s": SPEC.segment_s,
        "input": "waveform",
        "output": "logits",
        "activation": "softmax",
        "frontend": SPEC.to_artifact(),
        "embeddings": {"output": 1, "width": WIDTH, "enrolment": None},
    }
    file.with_suffix(".json").write_text(json.dumps({**about, **changes}))


def test_a_run_embeds_as_its_network_does(tmp_path):
    keras.utils.set_random_seed(0)
    experiment = schema.Experiment(name="small", frontend=SPEC, model=schema.Model("cnn/tiny"))
    network = build_network(experiment, 2)
    save_run(tmp_path / "run", experiment, ("a", "b"), model_weights(network))
    embedder = open_embedder(tmp_path / "run")
    given = windows(70, SPEC.n_samples)  # more than one batch
    features = network_input(log_mel(given, SPEC), SPEC)
    wanted = models.with_outputs(network, ["embedding"]).predict(features, verbose=0)
    wanted = next(iter(wanted.values())) if isinstance(wanted, dict) else wanted
    found = embedder.embed(given)
    assert found.shape == (70, embedder.width) and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerances.ENGINE_EMBEDDINGS * np.abs(wanted).max())
    assert (embedder.n_samples, embedder.license) == (SPEC.n_samples, "")
    with pytest.raises(UserError, match="card describes a foreign file"):
        open_embedder(tmp_path / "run", "perch_v2")


def test_an_exported_file_embeds_by_its_sidecar(artifact):
    embedder = open_embedder(artifact, threads=1)
    assert (embedder.sample_rate_hz, embedder.segment_s, embedder.width) == (8_000, 0.4, WIDTH)
    given = windows(3, SPEC.n_samples)
    wanted = foreign_encoders.embedding(given, WIDTH)
    np.testing.assert_allclose(embedder.embed(given), wanted, atol=tolerances.ENCODER_STAND_IN * wanted.max())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": None}, "gives no embeddings; export the run again with --embeddings"),
        ({"input": "features"}, "reads features; export the run with waveform input"),
        ({"sha256": "0" * 64}, "SHA-256 differs"),
        ({"embeddings": {"width": -1}}, "'embeddings' must have a 'width'"),
        ({"embeddings": {"width": True}}, "'embeddings' must have a 'width'"),
        ({"embeddings": [1]}, "'embeddings' must have a 'width'"),
        ({"embeddings": {"width": WIDTH + 1}}, f"an output 'embeddings' with {WIDTH + 1} values was expected"),
    ],
)
def test_an_exported_file_that_cannot_embed_is_refused(artifact, changes, message):
    write_sidecar(artifact, **changes)
    with pytest.raises(UserError) as caught:
        open_embedder(artifact)
    assert message in str(caught.value)


def test_a_card_beside_a_foreign_file_is_no_sidecar(tmp_path):
    file, card = embedding_store.write_encoder(tmp_path)  # small.onnx and small.json
    with pytest.raises(UserError, match="none of the encoder cards"):
        open_embedder(file)
    embedder = open_embedder(file, str(card))
    assert (embedder.name, embedder.license, embedder.card) == ("small", "CC0", str(card))
