"""Classes of a run on a store: the head on the stored embeddings, and heads that do not fit a store."""

import dataclasses
import json

import encoder_runs
import numpy as np
import pytest
import tolerances
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.inference.open import open_engine
from birdnet_fs.search.class_scores import best_of_classes, class_scores, open_store_head
from birdnet_fs.search.embed_recordings import embed_recordings
from birdnet_fs.search.store import open_store
from birdnet_fs.training.trainer import train

need("onnxruntime")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scores")
    root = encoder_runs.write_recordings(folder / "in", 4)
    file, card = encoder_runs.write_encoder(folder / "encoder")
    run = train(encoder_runs.experiment(file, card, root), folder / "run")
    embed_recordings(open_embedder(file, str(card)), [root], folder / "store", dtype="float32")
    return folder, run


def windows_of(path):
    import soundfile

    waveform, _ = soundfile.read(path, dtype="float32")
    n = encoder_runs.N_SAMPLES
    return np.stack([waveform[i : i + n] for i in range(0, len(waveform) - n + 1, n)])


def test_scores_are_those_of_the_run_on_the_audio(place):
    folder, run = place
    store = open_store(folder / "store")
    scores = class_scores(open_store_head(store.header, run.path))
    assert scores.names == encoder_runs.KINDS and scores.activation == "softmax"
    number = next(i for i, each in enumerate(store.recordings) if each.path == "tit/tit1.wav")
    windows = windows_of(folder / "in" / "tit" / "tit1.wav")
    rows = np.flatnonzero(store.recording == number)[: len(windows)]
    expected = open_engine(run.path).probabilities(windows)
    np.testing.assert_allclose(scores.score(store.embeddings(rows)), expected, atol=tolerances.STORED_HEAD)
    best = best_of_classes(store, class_scores(open_store_head(store.header, run.path), ("wren", "owl")))
    both = scores.score(store.embeddings())[:, [2, 0]]
    np.testing.assert_allclose(best.values, both.max(axis=1), atol=tolerances.STORED_HEAD)
    np.testing.assert_array_equal(best.which, both.argmax(axis=1))
    assert best.names == ("wren", "owl")


def test_an_unknown_class_names_the_nearest(place):
    folder, run = place
    head = open_store_head(open_store(folder / "store").header, run.path)
    with pytest.raises(UserError, match=r"'wrn' is not a class of the run\. Did you mean 'wren'\?.*owl, tit, wren"):
        class_scores(head, ("owl", "wrn"))


def test_a_head_on_another_encoder_names_both(place):
    folder, run = place
    header = open_store(folder / "store").header
    other = dataclasses.replace(header, identity="another", encoder="perch_v2")
    with pytest.raises(UserError, match=r"encoder perch_v2 .* is a head on small"):
        open_store_head(other, run.path)
    with pytest.raises(UserError, match="another version"):
        open_store_head(dataclasses.replace(header, identity="another"), run.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"own_classes": ["owl"], "own_columns": [0]}, "own_scores=none"),
        ({"input_shape": [2, encoder_runs.WIDTH]}, "reads \\[2, 24\\] values"),
    ],
)
def test_a_head_that_reads_more_than_the_embedding_is_refused(place, tmp_path, change, message, monkeypatch):
    from birdnet_fs.search import class_scores as module

    folder, run = place
    found = json.loads((run.path / "encoder.json").read_text())
    real = module.open_head
    encoders = dataclasses.replace(real(run).encoders, **{key: tuple(value) for key, value in change.items()})
    monkeypatch.setattr(module, "open_head", lambda *a, **k: dataclasses.replace(real(run), encoders=encoders))
    assert found["input_shape"] == [encoder_runs.WIDTH]
    with pytest.raises(UserError, match=message):
        open_store_head(open_store(folder / "store").header, run.path)
