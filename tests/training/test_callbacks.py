"""What a training leaves while it runs, and what it is good for: history.csv, checkpoints, a test of a checkpoint."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tolerances
from sklearn.metrics import log_loss, precision_recall_fscore_support, roc_auc_score

from birdnet_fs import schema
from birdnet_fs.cli.evaluate import evaluate
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.partition import VAL, partition, read_partition
from birdnet_fs.data.score_table import read_scores
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.resolve import is_finished
from birdnet_fs.runs.run import load_run, read_weights, save_run
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model, Schedule, Training
from birdnet_fs.training import trainer
from birdnet_fs.training.callbacks import EpochCallbacks
from birdnet_fs.training.loop import DivergedError, Interrupted
from birdnet_fs.training.resume.existing import check_unfinished

SPEC = FrontEnd(segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0, normalize="z_score")


def experiment(recordings: Path, *settings: str) -> Experiment:
    return override(
        Experiment(
            name="tiny",
            data=Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
            frontend=SPEC,
            model=Model("cnn/tiny", dropout=0.0),
            training=Training(
                epochs=4,
                batch_size=8,
                learning_rate=3e-3,
                threads=1,
                schedule=Schedule(warmup_epochs=0),
                checkpoints=schema.Checkpoints(n_best=2),
            ),
        ),
        settings,
    )


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory):
    return trainer.train(experiment(recordings), tmp_path_factory.mktemp("runs") / "tiny")


def checkpoints(run) -> dict[str, Path]:
    return {path.name: path for path in sorted((run.path / "checkpoints").iterdir())}


def test_a_row_holds_the_numbers_of_the_documents(run) -> None:
    """The row of the last epoch, by scikit-learn on the scores of the finished run for the validation clips."""
    with open(run.path / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [name for name in rows[0] if "/" not in name] == [
        "epoch", "train_loss", "train_acc", "learning_rate", "val_loss", "val_acc", "val_precision", "val_recall",
        "val_f1", "val_macro_auroc", "seconds",
    ]  # fmt: skip
    clips = read_partition(run.path / "partition.csv", VAL)
    scored = score_clips(open_engine(run.path), clips)
    truth = np.array([run.classes.index(clip.labels[0]) for clip in scored.clips])
    named, present = scored.probabilities.argmax(1), np.unique(truth)
    last = {name: float(value) for name, value in rows[-1].items()}
    reference = log_loss(truth, scored.probabilities, labels=range(3))
    assert last["val_loss"] == pytest.approx(reference, rel=tolerances.LOSS_OF_SCORES)
    assert last["val_acc"] == np.mean(truth == named)
    means = precision_recall_fscore_support(truth, named, labels=present, average="macro", zero_division=0)
    assert [last[f"val_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(means[:3])
    each = precision_recall_fscore_support(truth, named, labels=range(3), zero_division=np.nan)[1]
    for c, name in enumerate(run.classes):
        np.testing.assert_equal(last[f"val/per_class_accuracy/{name}"], each[c] if c in present else math.nan)
    of_classes = [last[f"train/per_class_accuracy/{name}"] for name in run.classes]
    assert min(of_classes) <= last["train_acc"] <= max(of_classes)


def test_checkpoints_are_the_best_and_the_last_epoch(run) -> None:
    found, history = checkpoints(run), read_history(run.path / "history.csv")
    best = sorted(history, key=lambda row: (-row["val_macro_auroc"], row["epoch"]))[:2]
    names = {f"epoch_{int(row['epoch']):03d}_val_macro_auroc_{row['val_macro_auroc']:.4f}" for row in best}
    assert set(found) == names | {"last"}
    for name, value in read_weights(found["last"] / "weights.safetensors").items():
        np.testing.assert_array_equal(value, read_weights(run.path / "weights.safetensors")[name])
    clips = read_partition(run.path / "partition.csv", VAL)
    for name in names:
        opened = load_run(found[name])
        assert (opened.experiment, opened.classes) == (run.experiment, run.classes)
        assert len(read_history(found[name] / "history.csv")) == int(name[6:9])
        scored = score_clips(open_engine(found[name]), clips)
        truth = np.array([[c == clip.labels[0] for c in run.classes] for clip in scored.clips])
        assert name.endswith(f"_{roc_auc_score(truth, scored.probabilities):.4f}")


def test_a_checkpoint_has_the_files_of_a_run_and_no_pickle(run) -> None:
    files = {
        "classes.txt", "config.json", "history.csv", "inputs.json", "partition.csv", "recordings.csv", "versions.json",
        "weights.safetensors",
    }  # fmt: skip
    for path in checkpoints(run).values():
        assert {file.name for file in path.iterdir()} == files


def test_a_checkpoint_is_tested_on_what_the_run_held_out(run, tmp_path, capsys) -> None:
    last = checkpoints(run)["last"]
    evaluate(last, output=tmp_path / "tested")
    assert "macro AUROC" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "tested").iterdir()} == {
        "held_out.csv", "metrics.json", "report.html", "scores.csv", "scores.json"
    }  # fmt: skip
    assert not (last / "metrics.json").exists()
    found = json.loads((tmp_path / "tested" / "metrics.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(report_on_held_out(run)))  # the same weights
    table = read_scores(run.path / "scores.csv")
    truth, named = table.targets.argmax(1), table.scores.argmax(1)
    for row, *reference in zip(
        found["per_class"], *precision_recall_fscore_support(truth, named, labels=range(3), zero_division=0)[:3],
        strict=True,
    ):  # fmt: skip
        assert [row[name] for name in ("precision", "recall", "f1")] == pytest.approx(reference)
    weighted = precision_recall_fscore_support(truth, named, average="weighted", zero_division=0)
    assert [found[f"weighted_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(weighted[:3])
    page = (tmp_path / "tested" / "report.html").read_text(encoding="utf-8")
    assert "<h1>tiny, last</h1>" in page and page.count("<svg") == 4  # curves, confusion, calibration, training
    evaluate(last)  # into the checkpoint itself, and from its scores when there are some
    before = (last / "metrics.json").read_text(encoding="utf-8")
    evaluate(last)
    assert (last / "metrics.json").read_text(encoding="utf-8") == before


def test_a_checkpoint_starts_a_training(run, recordings, tmp_path) -> None:
    last = checkpoints(run)["last"]
    settings = [
        f"model.weights={last}",
        "training.epochs=1",
        "training.checkpoints.n_best=0",
        "training.learning_rate=1e-9",
    ]
    again = trainer.train(experiment(recordings, *settings), tmp_path / "again")
    before, after = (read_weights(path / "weights.safetensors") for path in (last, again.path))
    np.testing.assert_allclose(after["logits/kernel"], before["logits/kernel"], atol=tolerances.BARELY_TRAINED)


def test_without_validation_clips_the_last_epoch_is_kept(recordings, tmp_path) -> None:
    run = trainer.train(experiment(recordings, "data.fold=-1", "training.epochs=1"), tmp_path / "run")
    assert set(checkpoints(run)) == {"last"}
    with pytest.raises(UserError, match="held nothing out to evaluate on"):
        evaluate(checkpoints(run)["last"])


def stopped(monkeypatch, after: int, error: BaseException) -> None:
    """The training of this test dies after as many epochs."""
    finish = EpochCallbacks.after_epoch

    def die(self, history, weights):
        finish(self, history, weights)
        if len(history) == after:
            raise error

    monkeypatch.setattr(EpochCallbacks, "after_epoch", die)


def test_killed_training_leaves_history_and_checkpoints(recordings, tmp_path, monkeypatch) -> None:
    stopped(monkeypatch, 2, RuntimeError("as if killed"))
    with pytest.raises(RuntimeError):
        trainer.train(experiment(recordings), tmp_path / "run")
    assert [row["epoch"] for row in read_history(tmp_path / "run" / "history.csv")] == [1, 2]
    assert load_run(tmp_path / "run" / "checkpoints" / "last").build_model().count_params() > 0
    with pytest.raises(UserError, match=r"other settings .*model\.weights=.*last starts from"):
        check_unfinished(tmp_path / "run", experiment(recordings, "seed=3"))


def test_the_command_of_a_killed_training_starts_anew_and_keeps_what_is_there(
    recordings, tmp_path, monkeypatch, capsys
) -> None:
    folder, last = tmp_path / "run", tmp_path / "run" / "checkpoints" / "last"
    with monkeypatch.context() as patch:
        stopped(patch, 2, RuntimeError("as if killed"))
        with pytest.raises(RuntimeError):
            trainer.train(experiment(recordings), folder)
    capsys.readouterr()
    check_unfinished(folder, experiment(recordings))
    assert "after 2 epochs. Training starts anew" in capsys.readouterr().err
    before = read_weights(last / "weights.safetensors")
    with monkeypatch.context() as patch:
        stopped(patch, 1, KeyboardInterrupt())
        with pytest.raises(Interrupted):
            trainer.train(experiment(recordings), folder)
    np.testing.assert_equal(read_weights(last / "weights.safetensors"), before)
    assert len(read_history(folder / "unfinished" / "interrupted" / "history.csv")) == 1
    run = trainer.train(experiment(recordings), folder)
    assert set(checkpoints(run)) > {"last"} and len(read_history(last / "history.csv")) == 4
    assert not (folder / "unfinished").exists()


def test_an_interrupt_between_epochs_leaves_a_run(recordings, tmp_path, monkeypatch) -> None:
    stopped(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(Interrupted):
        trainer.train(experiment(recordings), tmp_path / "run")
    left = load_run(tmp_path / "run" / "interrupted")
    assert len(read_history(left.path / "history.csv")) == 2
    last = read_weights(tmp_path / "run" / "checkpoints" / "last" / "weights.safetensors")
    for name, value in read_weights(left.path / "weights.safetensors").items():
        np.testing.assert_array_equal(value, last[name])


def everything(folder: Path) -> dict[str, bytes]:
    """Content by name of all files of a run folder, those of an unfinished training left out."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("unfinished/")}


def test_an_earlier_run_stays_until_the_new_one_is_whole(recordings, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "run"
    short = [*("training.epochs=1", "training.checkpoints.n_best=1", "training.track=tensorboard")]
    trainer.train(experiment(recordings, *short), folder)
    assert is_finished(folder, experiment(recordings, *short, "training.track=both", "training.checkpoints.n_best=5"))
    (folder / "export").mkdir()
    (folder / "export" / "tiny.tflite").write_bytes(b"shipped")
    (folder / "support.csv").write_text("of an enrolled run")
    before = everything(folder)
    with pytest.raises(DivergedError):
        trainer.train(experiment(recordings, "training.learning_rate=1e30", "training.optimizer.clip_norm=0"), folder)
    assert everything(folder) == before
    with monkeypatch.context() as patch:
        stopped(patch, 1, RuntimeError("as if killed"))
        with pytest.raises(RuntimeError):
            trainer.train(experiment(recordings, "seed=1", *short), folder)
    assert everything(folder) == before
    assert len(read_history(folder / "unfinished" / "history.csv")) == 1
    trainer.train(experiment(recordings, "seed=1", "training.epochs=2", "training.checkpoints.n_best=0"), folder)
    assert (folder / "export" / "tiny.tflite").read_bytes() == b"shipped"
    assert {path.name for path in folder.iterdir()} == {
        "classes.txt", "config.json", "export", "history.csv", "inputs.json", "partition.csv", "recordings.csv",
        "versions.json", "weights.safetensors",
    }  # fmt: skip


def test_full_disk_is_reported_once_and_training_continues(recordings, tmp_path, monkeypatch, capsys) -> None:
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("birdnet_fs.training.callbacks.write_history", full)
    run = trainer.train(experiment(recordings, "training.epochs=2"), tmp_path / "run")
    assert len(read_history(run.path / "history.csv")) == 2
    assert capsys.readouterr().err.count("No space left on device") == 1


def test_weights_for_which_there_is_no_room_are_an_error_of_the_system(run, tmp_path: Path) -> None:
    """The command line shows it as a sentence, and a training goes on after it."""
    resource = pytest.importorskip("resource")  # POSIX
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=f"File too large: '{tmp_path / 'run'}'"):
            save_run(tmp_path / "run", run.experiment, run.classes, read_weights(run.path / "weights.safetensors"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not any(tmp_path.iterdir())


def test_a_plateau_needs_validation_clips(recordings) -> None:
    settings = ["data.split=table", "data.where=set=aviary,split=train|test", "training.schedule=plateau"]
    with pytest.raises(UserError, match="schedule=plateau need validation clips"):
        partition(experiment(recordings, *settings))
