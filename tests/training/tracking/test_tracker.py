"""TensorBoard and MLflow get what history.csv and metrics.json hold, read back by their own libraries."""

import importlib.util
import json
import sqlite3
import sys
import types
from pathlib import Path

import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override, show
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.history import read_history
from birdnet_fs.schema import Checkpoints, Data, Experiment, FrontEnd, Model, Training
from birdnet_fs.training import trainer
from birdnet_fs.training.loop import Interrupted
from birdnet_fs.training.tracking import tracker
from birdnet_fs.training.tracking.mlflow import MLflow, metric_name
from birdnet_fs.training.tracking.tensorboard import TensorBoard, tag
from birdnet_fs.training.tracking.tracker import Tracking, metrics_for_tracking

SPEC = FrontEnd(segment_s=1.0, sample_rate_hz=16_000, n_mels=16, fmin_hz=300.0, fmax_hz=8_000.0, normalize="z_score")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracking") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=6, n_soundscapes=0)
    return folder


def experiment(recordings: Path, *settings: str) -> Experiment:
    return override(
        Experiment(
            name="watched",
            data=Data(root=str(recordings), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
            frontend=SPEC,
            model=Model("cnn/tiny"),
            training=Training(epochs=2, batch_size=8, threads=1, checkpoints=Checkpoints(n_best=1)),
        ),
        settings,
    )


@pytest.fixture(scope="module")
def run(recordings: Path, tmp_path_factory: pytest.TempPathFactory):
    """A run that was tracked in both, and then tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folder = tmp_path_factory.mktemp("runs") / "watched"
        (folder / "tensorboard").mkdir(parents=True)
        (folder / "tensorboard" / "events.out.tfevents.0.earlier").write_bytes(b"")
        run = trainer.train(experiment(recordings, "training.track=both"), folder)
        report_on_held_out(run)
        return run


def events(folder: Path, monkeypatch: pytest.MonkeyPatch):
    # TensorBoard's switch for builds without TensorFlow, which it would load here to read a file
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", types.ModuleType("notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def test_tensorboard_shows_every_epoch_and_the_test(run, monkeypatch) -> None:
    found = events(run.path / "tensorboard", monkeypatch)
    history = read_history(run.path / "history.csv")
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    documents = {"Loss/train", "Loss/val", "Accuracy/train", "Accuracy/val", "val/mean_per_class_accuracy"}
    documents |= {f"{stage}/per_class_accuracy/{name}" for stage in ("train", "val", "test") for name in run.classes}
    assert documents <= set(found.Tags()["scalars"])
    for row in history:
        for column, value in row.items():
            if column not in ("epoch", "seconds"):
                shown = {e.step: e.value for e in found.Scalars(tag(column))}
                assert shown[row["epoch"]] == pytest.approx(value, rel=tolerances.FLOAT32_LOG)
    assert [(e.step, e.value) for e in found.Scalars("Accuracy/test")] == [
        (2, pytest.approx(metrics["accuracy"], rel=tolerances.FLOAT32_LOG))
    ]
    text = found.Tensors("settings")
    assert show(run.experiment) in text[0].tensor_proto.string_val[0].decode()
    names = [path.name for path in (run.path / "tensorboard").iterdir()]
    assert len(names) == 2 and not any(name.endswith("earlier") for name in names)  # of the training, and of the test


def test_mlflow_holds_settings_metrics_and_report(run) -> None:
    from mlflow import MlflowClient

    folder = run.path.parent / "mlruns"
    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    (found,) = client.search_runs([client.get_experiment_by_name("birdnet_fs").experiment_id])
    assert (found.info.run_name, found.info.status) == ("watched", "FINISHED")
    assert found.data.tags["run_folder"] == str(run.path)
    assert found.data.params == dict(line.split("=", 1) for line in show(run.experiment).split("\n"))
    history = read_history(run.path / "history.csv")
    for name in ("train_loss", "val_acc", "val_macro_auroc", "seconds"):
        logged = {m.step: m.value for m in client.get_metric_history(found.info.run_id, name)}
        assert logged == {row["epoch"]: row[name] for row in history}
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert found.data.metrics["test_acc"] == metrics["accuracy"]
    assert found.data.metrics["test_macro_auroc"] == metrics["macro_auroc"]
    assert {m for m in found.data.metrics if m.startswith("test/")} == {
        f"test/per_class_accuracy/{row['name']}" for row in metrics["per_class"] if row["recall"] is not None
    }
    kept = {artifact.path for artifact in client.list_artifacts(found.info.run_id)}
    assert kept == {"report.html", "metrics.json", "history.csv", "config.json"}
    with sqlite3.connect(folder / "mlflow.db") as database:
        (kind,) = database.execute("select distinct artifact_uri like ? from runs", (f"{folder.as_uri()}%",)).fetchone()
    assert kind == 1  # nothing lies elsewhere


def test_a_checkpoint_is_tested_without_telling_the_trackers(run) -> None:
    before = sorted(path.name for path in (run.path / "tensorboard").iterdir())
    last = run.path / "checkpoints" / "last"
    assert not (last / tracker.TRACKING).exists()
    report_on_held_out(trainer.load_run(last))
    assert not (last / "tensorboard").exists()
    assert sorted(path.name for path in (run.path / "tensorboard").iterdir()) == before


class Broken:
    def epoch(self, row):
        raise ConnectionError("nobody listens\nat all")

    def close(self, status):
        raise AssertionError("asked again")


def test_what_fails_is_said_once_and_stops_no_training(recordings, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(TensorBoard, "start", classmethod(lambda *_: Broken()))

    def refused(*_):
        raise OSError("database is locked")

    monkeypatch.setattr(MLflow, "start", classmethod(refused))
    run = trainer.train(experiment(recordings, "training.track=both"), tmp_path / "run")
    assert len(read_history(run.path / "history.csv")) == 2 and not (run.path / tracker.TRACKING).exists()
    told = capsys.readouterr().err
    assert told.count("Nothing more is sent to tensorboard (ConnectionError: nobody listens);") == 1
    assert told.count("Nothing more is sent to mlflow (OSError: database is locked);") == 1


def test_a_store_that_is_gone_stops_no_report(tmp_path, capsys) -> None:
    for stored in ('{"mlflow": {"uri": "sqlite:////dev/null/x.db", "run_id": "1"}}', '{"mlflow": {}}', "{half"):
        (tmp_path / tracker.TRACKING).write_text(stored, encoding="utf-8")
        Tracking.of_run(tmp_path).report({"test_acc": 0.5}, 1)
        assert capsys.readouterr().err


@pytest.mark.parametrize(("track", "library"), [("tensorboard", "tensorboard"), ("both", "sqlalchemy")])
def test_a_missing_library_is_said_before_anything_is_decoded(
    track, library, recordings, tmp_path, monkeypatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None if name == library else find(name))
    monkeypatch.setattr(trainer, "Waveforms", None)
    with pytest.raises(UserError, match=rf"needs the library {library}.*pip install 'birdnet_fs\[track\]'"):
        trainer.train(experiment(recordings, f"training.track={track}"), tmp_path / "run")


def test_how_a_training_ended_is_told(recordings, tmp_path, monkeypatch) -> None:
    ends = []
    monkeypatch.setattr(Tracking, "close", lambda self, status: ends.append(status))
    for error in (KeyboardInterrupt(), RuntimeError()):

        def die(*_, error=error):
            raise error

        monkeypatch.setattr(trainer.Record, "after_epoch", die)
        with pytest.raises((Interrupted, RuntimeError)):
            trainer.train(experiment(recordings), tmp_path / "run")
    assert ends == ["KILLED", "FAILED"]


def test_writing_for_tensorboard_loads_no_tensorflow(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from birdnet_fs.training.tracking.tensorboard import TensorBoard; "
        "TensorBoard(Path(sys.argv[1])).epoch({'epoch': 1, 'train_loss': 0.5}); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)


def test_names_that_mlflow_refuses_are_changed() -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = ["Junco (slate/gray)", "..", "Grünspecht", "a\tb", "*", "x" * 300, "/", "ß:"]
    for name in names:
        _validate_metric_name(metric_name(f"val/per_class_accuracy/{name}"))
    assert metric_name("val/per_class_accuracy/Grünspecht") == "val/per_class_accuracy/Grünspecht"


def test_numbers_of_a_test_have_the_names_of_the_history() -> None:
    per_class = [{"name": "a", "recall": 0.5}, {"name": "b", "recall": None}]
    episodic = {"test_acc": 0.5, "test_f1": 0.4, "test_acc_ci": [0.4, 0.6], "n_way": 5, "per_class": per_class}
    assert metrics_for_tracking(episodic) == {"test_acc": 0.5, "test_f1": 0.4, "test/per_class_accuracy/a": 0.5}
    clips = {"accuracy": 0.5, "log_loss": 1.0, "macro_auroc": None, "f1": 0.3, "cmap": 0.2, "per_class": []}
    assert metrics_for_tracking(clips) == {"test_acc": 0.5, "test_loss": 1.0, "test_f1": 0.3}
