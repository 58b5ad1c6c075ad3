"""`birdnet-fs status` of trainings, folds and studies, as their commands leave them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_runs import write_run

from birdnet_fs.cluster.status import Item, exit_status, last_line, read_status
from birdnet_fs.core.lock import folder_lock, holder

HISTORY = "epoch,train_loss\n1,0.5\n2,0.4\n"


def begun(folder: Path) -> Path:
    """A training of which two epochs are done."""
    folder.mkdir(parents=True)
    (folder / "history.csv").write_text(HISTORY)
    return folder


def states(folder: Path) -> dict[str, str]:
    _, items = read_status(folder)
    return {item.name: item.state for item in items}


def test_training_is_done_stopped_failed_or_running(tmp_path: Path) -> None:
    write_run(tmp_path / "done")
    assert read_status(tmp_path / "done")[0] == "training" and states(tmp_path / "done") == {"done": "done"}
    (begun(tmp_path / "stopped") / "unfinished" / "state").mkdir(parents=True)
    assert read_status(tmp_path / "stopped")[1] == [Item("stopped", "stopped", "2 epochs; the same command goes on")]
    (begun(tmp_path / "failed") / "diverged").mkdir()
    assert states(tmp_path / "failed") == {"failed": "failed"}
    killed = begun(tmp_path / "killed")
    assert states(killed) == {"killed": "stopped"}
    with folder_lock(killed):
        [item] = read_status(killed)[1]
        assert item.state == "running" and f"process {os.getpid()} on" in item.detail
    assert holder(killed) is None


def test_lock_of_a_killed_process_is_not_held(tmp_path: Path) -> None:
    code = (
        f"import os\nfrom birdnet_fs.core.lock import folder_lock\nwith folder_lock({str(tmp_path / 'run')!r}):\n    "
    )
    subprocess.run([sys.executable, "-c", f"{code}os.kill(os.getpid(), 9)"])
    assert (tmp_path / ".run.lock").is_file() and holder(tmp_path / "run") is None
    about = json.loads((tmp_path / ".run.lock").read_text())
    (tmp_path / ".run.lock").write_text(json.dumps({**about, "host": "another"}))  # it is asked by the lock
    assert holder(tmp_path / "run") is None


def test_folds_that_no_job_has_begun_are_missing(tmp_path: Path) -> None:
    write_run(tmp_path / "fold0")
    (begun(tmp_path / "fold2") / "unfinished" / "state").mkdir(parents=True)
    expected = {"fold0": "done", "fold1": "missing", "fold2": "stopped", "fold3": "missing", "fold4": "missing"}
    assert states(tmp_path) == {**expected, "cv.json": "missing"}
    assert exit_status(read_status(tmp_path)[1]) == 1
    with folder_lock(tmp_path / "fold3"):
        assert states(tmp_path)["fold3"] == "running" and exit_status(read_status(tmp_path)[1]) == 3
    for number in range(1, 5):
        write_run(tmp_path / f"fold{number}")
        (tmp_path / f"fold{number}" / "unfinished" / "state").is_dir() and (
            tmp_path / f"fold{number}" / "unfinished" / "state"
        ).rmdir()
    (tmp_path / "cv.json").write_text("{}")
    assert exit_status(read_status(tmp_path)[1]) == 0


def test_trials_of_a_study_have_their_states(tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    from birdnet_fs import schema
    from birdnet_fs.tuning.study import Study

    space = schema.Space({"training.epochs": schema.Int(1, 5)}, n_trials=4)
    study = Study(tmp_path, schema.Experiment(name="x"), space)
    for state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL):
        trial = study.next()
        assert trial is not None
        trial.report(0.5, 1)
        value = 0.5 if state.name == "COMPLETE" else None
        study.tell(trial, state, value=value, reason="" if value else "the loss is not finite")
    running, gone = study.next(), study.next()
    assert running is not None and gone is not None
    (study.trial_folder(gone.number) / "alive.json").unlink()
    kind, items = read_status(tmp_path)
    assert kind == "study" and exit_status(items) == 3
    assert [item.state for item in items] == ["done", "failed", "running", "stopped"]
    assert items[0].detail == "0.5000 at epoch 1" and items[1].detail == "the loss is not finite"


def test_last_line_of_a_log_is_one_with_text(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"x" * 10_000 + b"\nfirst\n\xfflast\n\n  \n")
    assert last_line(tmp_path / "log") == "\ufffdlast" and last_line(tmp_path / "none") == ""
