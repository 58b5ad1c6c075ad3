"""Data of an experiment for `fit`: the batches of `train`, its validation clips, and a run that everything accepts."""

import csv
import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tolerances
from fit_recorder import CHANGES, Recorder, arrays, assert_same, experiment

from birdnet_fs import models
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.inference.clips import mean_over_windows, score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.metrics.keras_auroc import ClassWiseAUC
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.runs.run import load_run
from birdnet_fs.schema import Episodes
from birdnet_fs.training import trainer
from birdnet_fs.training.fit.data import FitData, fit_data


class Captured(Exception):
    """Ends a training before its first step."""


def fitted(data: FitData, epochs: int = 1) -> keras.Model:
    model = data.build_model()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=[ClassWiseAUC(positive_from=0.5)])
    model.fit(data.training, validation_data=data.validation, epochs=epochs, verbose=0)
    return model


@pytest.mark.parametrize("workers", [0, 2])
def test_fit_gets_the_batches_of_train(workers: int, recordings: Path, tmp_path: Path, monkeypatch) -> None:
    """Bit for bit, with augmentation, mixup and sampling, whatever prepares them."""
    chosen = experiment(recordings, *CHANGES)
    captured = []

    def stop(model, batches, *arguments, **options):
        captured.append([arrays(batches, epoch) for epoch in (0, 1)])
        raise Captured

    monkeypatch.setattr(trainer, "run_epochs", stop)
    with pytest.raises(Captured):
        trainer.train(chosen, tmp_path / "run")
    data = fit_data(experiment(recordings, *CHANGES, f"training.workers={workers}"))
    model = Recorder()
    model.fit(data.training, epochs=2, verbose=0)
    expected = [batch for epoch in captured[0] for batch in epoch]
    assert_same(model.seen, expected)
    assert (expected[0][0] != expected[len(captured[0][0])][0]).any()


def test_scores_of_the_validation_windows_are_those_of_the_clips(prepared: FitData, tmp_path: Path) -> None:
    """Clips of 5 s in windows of 3 s: two of each, whose mean is the score of the clip."""
    run = prepared.save_run(prepared.build_model(), tmp_path / "run")
    windows = np.concatenate([x for x, _ in prepared.validation])
    targets = np.concatenate([y for _, y in prepared.validation])
    clips = prepared.parts.val
    assert len(windows) == 2 * len(clips) and (targets[::2] == targets[1::2]).all()
    assert [prepared.classes[i] for i in targets[::2].argmax(1)] == [clip.labels[0] for clip in clips]
    logits = run.build_model().predict(windows, verbose=0)
    found = mean_over_windows(to_probabilities(logits, "softmax"), [2] * len(clips))
    expected = score_clips(open_engine(run.path), clips).probabilities
    np.testing.assert_allclose(found, expected, atol=tolerances.ENGINE_LOGITS)


def test_saved_run_is_evaluated_and_counts_as_finished(recordings: Path, tmp_path: Path) -> None:
    chosen = experiment(recordings, *CHANGES)
    data = fit_data(chosen)
    run = data.save_run(fitted(data, epochs=2), tmp_path / "run")
    assert load_run(run.path).experiment == data.experiment and is_finished(run.path, chosen)
    rows = read_history(run.path / "history.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert set(rows[0]) == {"epoch", "train_loss", "train_auc", "val_loss", "val_auc"}
    about = json.loads((run.path / "keras_fit.json").read_text())
    assert about["compile"]["optimizer"]["class_name"] == "Adam" and about["backend"] == "torch"
    assert (about["epochs"], about["dtype_policy"]) == (2, "float32")
    metrics = report_on_held_out(run)
    with (run.path / "scores.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(data.parts.held_out)
    assert 0 <= metrics["macro_auroc"] <= 1
    with (run.path / "recordings.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(data.parts.manifest.ledger.rows)


def test_run_trained_in_mixed_precision_is_scored_in_float32(recordings: Path, tmp_path: Path) -> None:
    data = fit_data(experiment(recordings, "training.batch_size=4", "training.max_steps=2"))
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = fitted(data)
        assert model.compute_dtype == "float16" and "LossScale" in type(model.optimizer).__name__
        run = data.save_run(model, tmp_path / "run")
        rebuilt = run.build_model()
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in rebuilt.layers} == {"float32"}
    assert json.loads((run.path / "keras_fit.json").read_text())["dtype_policy"] == "mixed_float16"
    x = next(iter(data.validation))[0]
    np.testing.assert_array_equal(rebuilt.predict(x, verbose=0), run.build_model().predict(x, verbose=0))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("distillation.teacher=self",), "no part for distillation.teacher; leave it out, or train it with"),
        (("model.encoder=perch.tflite",), "no part for model.encoder"),
        (("pseudo_labels.table=folder",), "no part for pseudo_labels.table"),
        (("model.quantized=true", "model.weights=run", "model.dropout=0"), "no part for model.quantized"),
    ],
)
def test_what_fit_would_leave_out_is_refused(settings: tuple[str, ...], words: str, recordings: Path) -> None:
    with pytest.raises(UserError, match=words):
        fit_data(experiment(recordings, *settings))


def test_episodes_and_unknown_labels_are_refused(recordings: Path, tmp_path: Path) -> None:
    chosen = experiment(recordings, "model.head=prototypes")
    with pytest.raises(UserError, match="no part for episodes"):
        fit_data(dataclasses.replace(chosen, episodes=Episodes(n_way=2, n_val=0, n_test=0)))
    with (recordings / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "aviary"]
    table = "".join(f"{recordings}/audio/{row['filename']},0,5,{row['label']},{rows[0]['label']}\n" for row in rows)
    (tmp_path / "metadata.csv").write_text(f"path,onset_s,offset_s,labels,secondary\n{table}", encoding="utf-8")
    masked = experiment(tmp_path, "data.where=", "data.audio=", "data.multi_label=true", "data.secondary=mask")
    with pytest.raises(UserError, match=r"Unknown labels .* set data\.secondary=label, soft or ignore"):
        fit_data(masked)


def test_another_network_than_that_of_the_experiment_is_refused(prepared: FitData, tmp_path: Path) -> None:
    other = models.build("cnn/small", input_shape=prepared.input_shape, n_classes=3)
    with pytest.raises(UserError, match=r"must be model\.name=cnn/tiny of the experiment\. Received: cnn/small"):
        prepared.save_run(other, tmp_path / "run")
