"""Training in episodes: from recordings to a run that classifies new species."""

import csv
import json
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances

from birdnet_fs import models
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.partition import TRAIN, partition, read_partition
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.embed import Embedder
from birdnet_fs.inference.open import open_engine
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.initial_weights import load_initial_weights
from birdnet_fs.runs.run import load_run, model_weights, read_weights
from birdnet_fs.schema import (
    Augmentation,
    Checkpoints,
    Data,
    Episodes,
    Experiment,
    FeatureNoise,
    FrontEnd,
    Masks,
    Model,
    Schedule,
    Training,
)
from birdnet_fs.training import trainer
from birdnet_fs.training.episodic import objective
from birdnet_fs.training.episodic.evaluation import episodic_validation
from birdnet_fs.training.loop import Interrupted

SPEC = FrontEnd(segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0, normalize="z_score")
ROLES = ["base", "base", "val", "novel"] * 3  # species of one genus sound alike: the three of a part are of three


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 species, 8 clips of 5 individuals each; a column `role` gives 6, 3 and 3 species to training, val and test."""
    folder = tmp_path_factory.mktemp("episodic") / "aviary"
    make_aviary(folder, n_species=12, clips_per_species=8, n_soundscapes=0)
    with open(folder / "metadata.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "aviary"]
    names = sorted({row["label"] for row in rows})
    with open(folder / "roles.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "role"])
        writer.writeheader()
        writer.writerows({**row, "role": ROLES[names.index(row["label"])]} for row in rows)
    return folder


def experiment(recordings: Path, *settings: str) -> Experiment:
    return override(
        Experiment(
            name="tiny",
            data=Data(root=str(recordings), table="roles.csv", audio="audio", split="table", split_column="role"),
            frontend=SPEC,
            model=Model("cnn/tiny", dropout=0.0, head="prototypes", distance="cosine", logit_scale=10.0),
            augmentation=Augmentation(time_masks=Masks(1), freq_masks=Masks(1), feature_noise=FeatureNoise(0.3)),
            training=Training(
                epochs=3,
                learning_rate=3e-3,
                threads=1,
                schedule=Schedule(warmup_epochs=0),
                checkpoints=Checkpoints(select="best"),
            ),
            episodes=Episodes(n_way=3, n_shot=2, n_query=2, n_train=15, n_val=100, n_test=500),
        ),
        settings,
    )


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory):
    return trainer.train(experiment(recordings), tmp_path_factory.mktemp("runs") / "tiny")


def test_loss_falls_and_new_species_are_classified(run) -> None:
    with open(run.path / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_epochs = [name for name in rows[0] if "/" not in name]
    assert of_epochs == [
        "epoch", "train_loss", "train_acc", "learning_rate",
        "val_loss", "val_acc", "val_precision", "val_recall", "val_f1", "seconds",
    ]  # fmt: skip
    assert list(rows[0])[: len(of_epochs)] == of_epochs
    assert float(rows[-1]["train_loss"]) < 0.7 * float(rows[0]["train_loss"])
    assert float(rows[-1]["train_acc"]) > 1 / 3 + 0.15
    for row in rows:  # 6 classes are trained on, 3 validated on; the recall is the mean of their accuracies
        each = [float(value) for name, value in row.items() if name.startswith("val/per_class_accuracy/")]
        assert len(each) == 3 and np.mean(each) == pytest.approx(float(row["val_recall"]))
        assert len([name for name in row if name.startswith("train/per_class_accuracy/")]) == 6
    metrics = report_on_held_out(run)
    assert metrics == json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test_acc_ci"][0] > 1 / 3 + 0.15
    assert (metrics["n_way"], metrics["n_shot"], metrics["n_query"], metrics["n_test"]) == (3, 2, 2, 500)
    assert metrics["recordings"] == "across" and metrics["distance"] == "cosine"
    assert {row["method"] for row in metrics["methods"]} == {
        "cosine", "euclidean", "simpleshot", "logistic_regression",
    }  # fmt: skip
    confusion = np.array(metrics["confusion"])
    assert confusion.sum() == 500 * 3 * 2
    assert [row["recall"] for row in metrics["per_class"]] == pytest.approx(
        (np.diag(confusion) / confusion.sum(1)).tolist()
    )
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert f"{100 * metrics['test_acc']:.1f} %" in page and metrics["per_class"][0]["name"] in page
    assert "//" not in re.sub('base64,[^"]+', "", page) and page.count("<svg") == 2


def test_finished_run_classifies_its_training_species(run, recordings) -> None:
    clips = read_partition(run.path / "partition.csv", TRAIN)
    assert run.classes == tuple(sorted({clip.labels[0] for clip in clips})) and len(run.classes) == 6
    engine = open_engine(run.path)
    waveforms = Waveforms(clips, SPEC.sample_rate_hz)
    cut = clip_rule(SPEC.n_samples, SPEC.sample_rate_hz).cut
    named = [engine.probabilities(cut(waveforms[i])).mean(0).argmax() for i in range(len(clips))]
    right = [engine.classes[c] == clip.labels[0] for c, clip in zip(named, clips, strict=True)]
    assert np.mean(right) > 0.5


def test_prototypes_are_mean_embeddings_of_training_clips(run) -> None:
    model = run.build_model()
    encoder = models.with_outputs(model, ["embedding"])
    clips = read_partition(run.path / "partition.csv", TRAIN)
    waveforms = Waveforms(clips, SPEC.sample_rate_hz)
    means = []
    for i in range(len(clips)):  # 5 s under segments of 3 s: two, 1.5 s apart; the last .5 s are dropped
        assert len(waveforms[i]) == 80_000
        windows = np.stack([waveforms[i][start : start + 48_000] for start in (0, 24_000)])
        means.append(encoder.predict(network_input(log_mel(windows, SPEC), SPEC), verbose=0).mean(0))
    expected = [
        np.mean([m for m, clip in zip(means, clips, strict=True) if clip.labels[0] == name], axis=0)
        for name in run.classes
    ]
    found = keras.ops.convert_to_numpy(model.get_layer("logits").prototypes)
    np.testing.assert_allclose(found, expected, atol=tolerances.PROTOTYPES)


def test_best_epoch_is_kept(run, recordings, tmp_path: Path) -> None:
    """The weights kept reach the best val_acc of the history again."""
    with open(run.path / "history.csv", encoding="utf-8") as file:
        best = max(float(row["val_acc"]) for row in csv.DictReader(file))
    parts = partition(run.experiment)
    waveforms = Waveforms(parts.val, SPEC.sample_rate_hz)
    validate = episodic_validation(run.build_model(), waveforms, SPEC, run.experiment.episodes, run.experiment.seed)
    assert validate()["val_acc"] == pytest.approx(best, abs=tolerances.NAMED_AGAIN)


def test_checkpoint_is_a_run(recordings, tmp_path: Path, capsys) -> None:
    """A run that was trained on some species is tested in episodes over the others."""
    settings = [
        "training.epochs=2",
        "training.checkpoints.n_best=1",
        "episodes.n_train=5",
        "training.optimizer.ema=0.5",
    ]
    run = trainer.train(experiment(recordings, *settings), tmp_path / "run")
    with open(run.path / "history.csv", encoding="utf-8") as file:
        best = max(csv.DictReader(file), key=lambda row: float(row["val_acc"]))
    name = f"epoch_{int(best['epoch']):03d}_val_acc_{float(best['val_acc']):.4f}"
    folder = run.path / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"last", name}
    kept, best_one = (model_weights(load_run(path).build_model()) for path in (run.path, folder / name))
    for path, value in kept.items():  # keep=best: prototypes too, whenever they were computed
        np.testing.assert_allclose(best_one[path], value, atol=tolerances.PROTOTYPES)
    evaluate(folder / name, output=tmp_path / "tested")
    printed = capsys.readouterr().out
    assert "3-way 2-shot accuracy" in printed and "prec" in printed
    metrics = json.loads((tmp_path / "tested" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test_acc"] == pytest.approx(report_on_held_out(run)["test_acc"], abs=tolerances.NAMED_AGAIN)
    assert {"report.html", "held_out.csv"} <= {path.name for path in (tmp_path / "tested").iterdir()}
    assert not (folder / name / "metrics.json").exists()
    evaluate(run.path)  # a finished run in episodes anew
    assert json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))["n_test"] == 500


def test_checkpoints_embed_a_bounded_part_of_the_training_set(recordings, tmp_path: Path, monkeypatch) -> None:
    """Once per epoch, at most so many windows of each class; the finished run has the mean over all clips."""
    mean, set_prototypes, counted, embedded = Embedder.mean, trainer.set_prototypes, [], []

    def counting(*given):
        counted.clear()
        found = set_prototypes(*given)
        embedded.append(sum(counted))
        return found

    monkeypatch.setattr(Embedder, "mean", lambda self, windows: counted.append(len(windows)) or mean(self, windows))
    monkeypatch.setattr(trainer, "set_prototypes", counting)
    monkeypatch.setattr(trainer, "WINDOWS_OF_A_CHECKPOINT", 2)
    settings = ["training.epochs=2", "episodes.n_train=2", "episodes.n_val=20", "training.checkpoints.n_best=2"]
    run = trainer.train(experiment(recordings, *settings), tmp_path / "run")
    rule, waveforms = clip_rule(SPEC.n_samples, SPEC.sample_rate_hz), Waveforms(partition(run.experiment).train, 16_000)
    n_windows = sum(len(rule.cut(waveforms[i])) for i in range(len(waveforms)))
    assert embedded == [2 * len(run.classes)] * 2 + [n_windows] and n_windows > 4 * len(run.classes)
    for folder in (run.path / "checkpoints").iterdir():
        assert load_run(folder).classes == run.classes


@pytest.mark.parametrize(
    ("n", "most", "expected"), [(3, None, [0, 1, 2]), (3, 5, [0, 1, 2]), (10, 2, [2, 7]), (3, 1, [1])]
)
def test_windows_of_a_checkpoint_are_evenly_spread(n, most, expected) -> None:
    assert objective._spread(n, most) == expected


def test_checkpoints_do_not_change_the_training(recordings, tmp_path: Path) -> None:
    settings = ["training.epochs=2", "episodes.n_train=5", "episodes.n_val=20", "model.distance=learned"]
    plain = trainer.train(experiment(recordings, *settings), tmp_path / "plain")
    kept = trainer.train(experiment(recordings, *settings, "training.checkpoints.n_best=2"), tmp_path / "kept")
    expected = read_weights(plain.path / "weights.safetensors")
    for path, value in read_weights(kept.path / "weights.safetensors").items():
        np.testing.assert_array_equal(value, expected[path])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["episodes.n_shot=7"], r"has 8 clips, fewer than the 9 of an episode"),
        (["episodes.n_way=4"], r"n_way=4 needs at least 4 classes.*Received: 3 classes"),
        (["episodes.n_way=9"], r"Received: 6 classes"),
        (
            ["data.split_column=split", "episodes.same_recording=true"],
            r"the split has 12 on both sides .*data\.split=classes",
        ),
        (["model.unknown=true"], r"for runs written by enrollment"),
    ],
)
def test_impossible_episodes_are_refused_before_decoding(settings, message, recordings, tmp_path) -> None:
    def decoded(*_, **__):
        raise AssertionError("decoded")

    with pytest.raises(UserError, match=message):
        trainer.train(experiment(recordings, *settings), tmp_path / "run", read=decoded)
    assert not (tmp_path / "run").exists()


def test_class_without_readable_clips_is_named(recordings, tmp_path, monkeypatch) -> None:
    read = Waveforms.__init__

    def without_first(self, found, *args, **kwargs):
        first = min(clip.labels[0] for clip in found)
        read(self, [clip for clip in found if clip.labels[0] != first], *args, **kwargs)

    monkeypatch.setattr(trainer.Waveforms, "__init__", without_first)
    with pytest.raises(UserError, match=r"None of the clips of .* could be read"):
        trainer.train(experiment(recordings), tmp_path / "run")


def test_embedder_averages_many_windows(run) -> None:
    model, rng = run.build_model(), np.random.default_rng(0)
    windows = rng.normal(0, 0.1, (70, SPEC.n_samples)).astype(np.float32)  # more than go through at a time
    each = models.with_outputs(model, ["embedding"]).predict(network_input(log_mel(windows, SPEC), SPEC), verbose=0)
    np.testing.assert_allclose(Embedder(model, SPEC).mean(windows), each.mean(0), atol=tolerances.PROTOTYPES)


def test_episodic_run_initializes_a_classifier(run) -> None:
    keras.utils.set_random_seed(1)
    model = models.build("cnn/tiny", input_shape=run.input_shape, n_classes=2)
    fresh = model_weights(model)
    message = load_initial_weights(run.path, model, Experiment(frontend=SPEC, model=Model("cnn/tiny")), ("lark", "owl"))
    trained, found = model_weights(run.build_model()), model_weights(model)
    for path, value in found.items():
        np.testing.assert_array_equal(value, (fresh if path.startswith("logits/") else trained)[path])
    assert "head prototypes" in message


def test_interrupted_run_has_prototypes(recordings, tmp_path: Path, monkeypatch) -> None:
    def interrupted(model, *_, **__):
        raise Interrupted(model_weights(model), [{"epoch": 1, "train_loss": 1.0}], n_batches=1)

    monkeypatch.setattr(trainer, "run_epochs", interrupted)
    with pytest.raises(Interrupted):
        trainer.train(experiment(recordings), tmp_path / "run")
    model = load_run(tmp_path / "run" / "interrupted").build_model()
    prototypes = keras.ops.convert_to_numpy(model.get_layer("logits").prototypes)
    assert prototypes.min() >= 0 and prototypes.max() > 1  # sums of what a ReLU gives, not random numbers around 0
