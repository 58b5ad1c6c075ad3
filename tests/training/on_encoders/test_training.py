"""Heads on an encoder from recordings to scores: training, evaluation, ensembles, teachers, and what is refused."""

import csv
import dataclasses
import json
import os
import shutil

import encoder_runs
import foreign_encoders
import numpy as np
import pytest
import soundfile
from installed import need

from birdnet_fs import schema
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.partition import HELD_OUT, read_partition
from birdnet_fs.encoders.reference import read_encoders
from birdnet_fs.inference.open import open_engine
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.ensemble import load_ensemble
from birdnet_fs.runs.inputs import input_changes
from birdnet_fs.runs.resolve import differing_settings, has_settings, is_finished
from birdnet_fs.runs.run import load_run
from birdnet_fs.training.trainer import train

need("onnxruntime")

SPEC = schema.FrontEnd(sample_rate_hz=16_000, segment_s=0.5, n_mels=32, fmax_hz=8000)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on_encoder")
    root = encoder_runs.write_recordings(folder / "recordings")
    encoder_runs.broken(root)
    return folder, root, *encoder_runs.write_encoder(folder / "encoder")


@pytest.fixture(scope="module")
def run(place):
    folder, root, file, card = place
    return train(encoder_runs.experiment(file, card, root), folder / "run")


def windows_of(path):
    waveform, _ = soundfile.read(path, dtype="float32")
    n, hop = encoder_runs.N_SAMPLES, encoder_runs.N_SAMPLES // 2
    return np.stack([waveform[i : i + n] for i in range(0, len(waveform) - n + 1, hop)])


def test_a_run_holds_head_reference_and_ledger(place, run):
    found = read_encoders(run.path)
    assert [(each.name, each.path, each.license) for each in found.encoders] == [("small", str(place[2]), "CC0")]
    assert found.input_shape == (encoder_runs.WIDTH,) and run.classes == encoder_runs.KINDS
    assert {path.name for path in run.path.iterdir()} >= {"weights.safetensors", "encoder.json", "partition.csv"}
    assert not (run.path / "encoder").exists()
    with open(run.path / "recordings.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 19
    assert load_run(run.path).experiment.model.head == "linear"


def test_a_window_is_scored_by_the_head_on_its_embedding(place, run):
    """The head, as a Keras network, on the embeddings of NumPy."""
    windows = windows_of(place[1] / "owl" / "owl0.wav")
    embeddings = foreign_encoders.embedding(windows, encoder_runs.WIDTH).astype(np.float32)
    expected = run.build_model().predict(embeddings, verbose=0)
    np.testing.assert_allclose(open_engine(run.path).logits(windows), expected, atol=1e-4)


def test_held_out_clips_are_scored_and_recognized(run):
    metrics = report_on_held_out(run)
    assert metrics["macro_auroc"] >= 0.95  # the patterns of the three kinds are far apart; chance is .5
    with open(run.path / "scores.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(read_partition(run.path / "partition.csv", HELD_OUT)) - 1  # one is broken
    first = rows[0]
    windows = windows_of(run.experiment.data.root + "/" + first["path"] if first["path"][0] != "/" else first["path"])
    expected = open_engine(run.path).probabilities(windows).mean(0)
    np.testing.assert_allclose([float(first[name]) for name in run.classes], expected, atol=1e-6)


def test_a_finished_run_is_recognized_and_a_changed_encoder_is_not(place, run, tmp_path):
    _folder, root, file, card = place
    assert is_finished(run.path, encoder_runs.experiment(file, card, root))
    other = encoder_runs.experiment(file, card, root, head="prototypes")
    assert not has_settings(run.path, other)
    assert differing_settings(run.path, other) == ["model.head=linear, not prototypes"]


def test_what_was_chosen_is_stored_beside_what_was_asked(place, tmp_path):
    _, root, file, card = place
    asked = encoder_runs.experiment(file, card, root)
    auto = train(asked, tmp_path / "auto")
    found = read_encoders(auto.path)
    chosen = auto.experiment.model.encoder_head
    assert chosen.l2 > 0 and chosen.transform != "auto" and found.choices
    assert found.asked == {"model.encoder_head.transform": "auto", "model.encoder_head.l2": "0.0"}
    assert is_finished(auto.path, asked)


def test_a_moved_or_changed_encoder_is_refused_and_a_copy_in_the_run_is_used(place, run, tmp_path):
    _, root, file, card = place
    moved = tmp_path / "moved.onnx"
    shutil.copy(file, moved)
    made = train(encoder_runs.experiment(moved, card, root), tmp_path / "run", copy_encoder=True)
    before = open_engine(made.path).logits(windows_of(root / "owl" / "owl0.wav"))
    moved.unlink()
    after = open_engine(made.path).logits(windows_of(root / "owl" / "owl0.wav"))
    np.testing.assert_array_equal(after, before)
    shutil.rmtree(made.path / "encoder")
    with pytest.raises(UserError, match=r"was .*moved\.onnx, and is not there any more; put the file back, or copy it"):
        open_engine(made.path)
    foreign_encoders.write_onnx(moved, encoder_runs.N_SAMPLES, encoder_runs.WIDTH, outputs=("embedding:x", "label:y"))
    with pytest.raises(UserError, match=r"is not the encoder that .* was trained on: it has changed since"):
        open_engine(made.path)


def test_analyze_gives_the_scores_of_the_windows(place, run, tmp_path):
    path = place[1] / "tit" / "tit1.wav"
    engine = open_engine(run.path)
    analyze(engine, [path], tmp_path / "tables", formats=["csv"], min_confidence=0.0)
    [table] = list((tmp_path / "tables").rglob("*tit1*.csv"))
    rows = encoder_runs.as_table(table)
    windows = windows_of(path)[::2]  # without overlap
    found = {(float(row["Start (s)"]), row["Common name"]): float(row["Confidence"]) for row in rows}
    for start, scores in zip((0.0, 0.2, 0.4), engine.probabilities(windows), strict=False):
        for name, score in zip(run.classes, scores, strict=True):
            assert found[start, name] == pytest.approx(score, abs=1e-4)


def test_an_ensemble_of_folds_embeds_each_window_once(place, tmp_path, monkeypatch):
    from birdnet_fs.cli.ensemble import make_ensemble
    from birdnet_fs.inference.encoder_features import EncoderFeatures

    _, root, file, card = place
    runs = [train(encoder_runs.experiment(file, card, root, fold=fold), tmp_path / f"fold{fold}") for fold in (0, 1)]
    made = make_ensemble([each.path for each in runs], tmp_path / "both", combine="mean", overwrite=False)
    windows = windows_of(root / "owl" / "owl0.wav")
    expected = np.mean([open_engine(each.path).probabilities(windows) for each in runs], axis=0)
    calls = []
    real = EncoderFeatures.features
    monkeypatch.setattr(EncoderFeatures, "features", lambda self, rows: calls.append(len(rows)) or real(self, rows))
    np.testing.assert_allclose(open_engine(made.path).probabilities(windows), expected, atol=1e-5)
    assert calls == [len(windows)] and len(load_ensemble(made.path).members) == 2


def test_a_head_on_an_encoder_teaches_a_network(place, run, tmp_path):
    _, root, *_ = place
    student = schema.Experiment(
        data=schema.Data(root=str(root), n_folds=2),
        frontend=SPEC,
        model=schema.Model("cnn/tiny"),
        training=schema.Training(epochs=1, batch_size=8),
        distillation=schema.Distillation(teacher=str(run.path)),
    )
    trained = train(student, tmp_path / "student")
    with open(trained.path / "history.csv", newline="", encoding="utf-8") as file:
        [row] = csv.DictReader(file)
    assert np.isfinite(float(row["train_loss"]))


def test_validation_clips_give_a_row_that_is_watched(place, tmp_path):
    _, root, file, card = place
    rows = []
    asked = encoder_runs.experiment(file, card, root, val_fraction=0.4, split="folds")
    train(asked, tmp_path / "run", watch=lambda column, history: rows.append(history[-1][column]))
    assert len(rows) == 1 and 0.9 <= rows[0] <= 1


def test_a_run_as_encoder_is_refused_for_clips_that_it_was_trained_on(place, tmp_path):
    _, root, *_ = place
    base = schema.Experiment(
        data=schema.Data(root=str(root), n_folds=2, fold=0),
        frontend=SPEC,
        model=schema.Model("cnn/tiny"),
        training=schema.Training(epochs=1, batch_size=8),
    )
    trained = train(base, tmp_path / "base")
    from birdnet_fs.inference.encoder_settings import with_encoder

    head = schema.Experiment(data=base.data, model=schema.Model(encoder=str(trained.path)))
    made = train(with_encoder(head), tmp_path / "head")
    assert read_encoders(made.path).input_shape == (48,)
    other = dataclasses.replace(head, data=dataclasses.replace(head.data, fold=1))
    with pytest.raises(UserError, match=r"was trained on .* held out here .*choose another model\.encoder"):
        train(with_encoder(other), tmp_path / "leak")


def test_background_recordings_are_learned_as_none_of_the_classes(place, run, tmp_path):
    """A recording of a fourth kind: a head without it must choose one of three, a head with it need not."""
    _, root, file, card = place
    rng = np.random.default_rng(5)
    pattern = np.repeat(rng.uniform(-1, 1, encoder_runs.N_SAMPLES // 200), 100)
    (tmp_path / "forest").mkdir()
    for i in range(6):
        waveform = np.resize(pattern, 11_200) + rng.normal(size=11_200)
        soundfile.write(tmp_path / "forest" / f"{i}.wav", (waveform / 8).clip(-1, 1), 16_000)
    background = str((tmp_path / "forest").resolve())
    new = np.resize(pattern, encoder_runs.N_SAMPLES) + np.random.default_rng(6).normal(size=encoder_runs.N_SAMPLES)
    window = (new / 8).astype(np.float32)[None]
    asked = encoder_runs.experiment(file, card, root, background=background, noise_label="class")
    with_class = train(asked, tmp_path / "class")
    assert with_class.classes == ("noise", *encoder_runs.KINDS)
    assert open_engine(with_class.path).probabilities(window)[0, 0] > 0.8
    labels = {row["path"]: row["labels"] for row in encoder_runs.as_table(with_class.path / "partition.csv")}
    assert [labels[f"{background}/{i}.wav"] for i in range(6)] == ["noise"] * 6
    assert f"{background}/0.wav" in {row["path"] for row in encoder_runs.as_table(with_class.path / "recordings.csv")}
    report_on_held_out(with_class)
    several = {"multi_label": True, "layout": "folders"}
    negatives = train(encoder_runs.experiment(file, card, root, background=background, **several), tmp_path / "none")
    without = train(encoder_runs.experiment(file, card, root, **several), tmp_path / "without")
    highest = [open_engine(each.path).probabilities(window).max() for each in (negatives, without)]
    assert negatives.classes == encoder_runs.KINDS and highest[0] < highest[1] / 2
    assert is_finished(with_class.path, asked)
    os.utime(tmp_path / "forest" / "0.wav", (1, 1))
    soundfile.write(tmp_path / "forest" / "6.wav", (waveform / 8).clip(-1, 1), 16_000)
    changes = input_changes(with_class.path, with_class.experiment)
    assert any("added" in text for text in changes), changes


@pytest.mark.parametrize("own_scores", ["blend", "features"])
def test_a_head_that_reads_own_scores_scores_windows_as_it_was_validated(place, tmp_path, own_scores):
    """Embedding, own logits of "owl" and "wren" and the Keras network, against the opened run."""
    _, root, file, card = place
    names = ["Strix wren", *(f"Genus other{i}" for i in range(48)), "Strix owl"]
    (tmp_path / "labels.txt").write_text("\n".join(names), encoding="utf-8")
    own = {"n_scores": 50, "activation": "logits"}
    (tmp_path / "card.json").write_text(json.dumps({**json.loads(card.read_text(encoding="utf-8")), **own}))
    for kind in encoder_runs.KINDS:
        shutil.copytree(root / kind, tmp_path / "recordings" / f"Strix {kind}")
    plain = encoder_runs.experiment(file, tmp_path / "card.json", tmp_path / "recordings")
    labels = str(tmp_path / "labels.txt")
    head = dataclasses.replace(plain.model.encoder_head, own_scores=own_scores, labels=labels, n_views=1)
    experiment = dataclasses.replace(plain, model=dataclasses.replace(plain.model, encoder_head=head))
    made = train(experiment, tmp_path / "run")
    found = read_encoders(made.path)
    assert (found.own_columns, found.input_shape) == ((49, 0), (encoder_runs.WIDTH + 2,))
    windows = windows_of(root / "owl" / "owl0.wav")
    embeddings = foreign_encoders.embedding(windows, encoder_runs.WIDTH)
    own_logits = foreign_encoders.scores_of(embeddings, 50)[:, [49, 0]]
    given = np.concatenate([embeddings, own_logits], axis=1).astype(np.float32)
    expected = made.build_model().predict(given, verbose=0)
    np.testing.assert_allclose(open_engine(made.path).logits(windows), expected, atol=1e-4)
    assert report_on_held_out(made)["macro_auroc"] >= 0.95 and is_finished(made.path, experiment)
