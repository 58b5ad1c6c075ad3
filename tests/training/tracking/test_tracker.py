"""Trackers: errors, status, and the metrics of the test."""

import importlib.util

import pytest
from tracked_experiment import experiment

from birdnet_fs.core.errors import UserError
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.run import load_run
from birdnet_fs.training import trainer
from birdnet_fs.training.callbacks import EpochCallbacks
from birdnet_fs.training.loop import Interrupted
from birdnet_fs.training.tracking import tracker
from birdnet_fs.training.tracking.mlflow import MLflow
from birdnet_fs.training.tracking.tensorboard import TensorBoard
from birdnet_fs.training.tracking.tracker import Tracking, metrics_for_tracking


def test_report_on_a_checkpoint_is_not_tracked(run) -> None:
    before = sorted(path.name for path in (run.path / "tensorboard").iterdir())
    last = run.path / "checkpoints" / "last"
    assert not (last / tracker.TRACKING).exists()
    report_on_held_out(load_run(last))
    assert not (last / "tensorboard").exists()
    assert sorted(path.name for path in (run.path / "tensorboard").iterdir()) == before


class Broken:
    def epoch(self, row):
        raise ConnectionError("nobody listens\nat all")

    def close(self, status):
        raise AssertionError("asked again")


def test_failing_tracker_is_reported_once_and_training_continues(recordings, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(TensorBoard, "start", classmethod(lambda *_: Broken()))

    def refused(*_):
        raise OSError("database is locked")

    monkeypatch.setattr(MLflow, "start", classmethod(refused))
    run = trainer.train(experiment(recordings, "training.track=both"), tmp_path / "run")
    assert len(read_history(run.path / "history.csv")) == 2 and not (run.path / tracker.TRACKING).exists()
    printed = capsys.readouterr().err
    assert printed.count("Tracking with tensorboard stopped (ConnectionError: nobody listens);") == 1
    assert printed.count("Tracking with mlflow stopped (OSError: database is locked);") == 1


def test_missing_store_does_not_stop_a_report(tmp_path, capsys) -> None:
    for stored in ('{"mlflow": {"uri": "sqlite:////dev/null/x.db", "run_id": "1"}}', '{"mlflow": {}}', "{half"):
        (tmp_path / tracker.TRACKING).write_text(stored, encoding="utf-8")
        Tracking.of_run(tmp_path).report({"test_acc": 0.5}, 1)
        assert capsys.readouterr().err


@pytest.mark.parametrize(("track", "library"), [("tensorboard", "tensorboard"), ("both", "sqlalchemy")])
def test_missing_library_is_refused_before_decoding(track, library, recordings, tmp_path, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None if name == library else find(name))
    with pytest.raises(UserError, match=rf"needs the library {library}.*pip install 'birdnet_fs\[track\]'"):
        trainer.train(experiment(recordings, f"training.track={track}"), tmp_path / "run", read=None)


def test_status_is_killed_or_failed(recordings, tmp_path, monkeypatch) -> None:
    ends = []
    monkeypatch.setattr(Tracking, "close", lambda self, status: ends.append(status))
    for error in (KeyboardInterrupt(), RuntimeError()):

        def die(*_, error=error):
            raise error

        monkeypatch.setattr(EpochCallbacks, "after_epoch", die)
        with pytest.raises((Interrupted, RuntimeError)):
            trainer.train(experiment(recordings), tmp_path / "run")
    assert ends == ["KILLED", "FAILED"]


def test_metrics_for_tracking_are_named_like_the_history() -> None:
    per_class = [{"name": "a", "recall": 0.5}, {"name": "b", "recall": None}]
    episodic = {"test_acc": 0.5, "test_f1": 0.4, "test_acc_ci": [0.4, 0.6], "n_way": 5, "per_class": per_class}
    assert metrics_for_tracking(episodic) == {"test_acc": 0.5, "test_f1": 0.4, "test/per_class_accuracy/a": 0.5}
    clips = {"accuracy": 0.5, "log_loss": 1.0, "macro_auroc": None, "f1": 0.3, "cmap": 0.2, "per_class": []}
    assert metrics_for_tracking(clips) == {"test_acc": 0.5, "test_loss": 1.0, "test_f1": 0.3}
