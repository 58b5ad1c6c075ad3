"""The MLflow run of a training, read by MLflow."""

import json
import sqlite3

from birdnet_fs.core.settings import show
from birdnet_fs.runs.history import read_history
from birdnet_fs.training.tracking.mlflow import metric_name


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


def test_metric_names_are_valid_in_mlflow() -> None:
    from mlflow.utils.validation import _validate_metric_name

    names = ["Junco (slate/gray)", "..", "Grünspecht", "a\tb", "*", "x" * 300, "/", "ß:"]
    for name in names:
        _validate_metric_name(metric_name(f"val/per_class_accuracy/{name}"))
    assert metric_name("val/per_class_accuracy/Grünspecht") == "val/per_class_accuracy/Grünspecht"
