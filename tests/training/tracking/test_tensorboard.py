"""TensorBoard files of a training, read by TensorBoard."""

import json
import sys
import types
from pathlib import Path

import pytest
import tolerances

from birdnet_fs.core.settings import show
from birdnet_fs.runs.history import read_history
from birdnet_fs.training.tracking.tensorboard import tag


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


def test_tensorboard_tracker_loads_no_tensorflow(tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from birdnet_fs.training.tracking.tensorboard import TensorBoard; "
        "TensorBoard(Path(sys.argv[1])).epoch({'epoch': 1, 'train_loss': 0.5}); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
