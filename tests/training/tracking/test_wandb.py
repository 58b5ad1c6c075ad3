"""Runs of Weights & Biases: what is given to its library, and what the library writes without a network."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from installed import need
from tracked_experiment import experiment

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import flat
from birdnet_fs.reports.held_out import report_on_held_out
from birdnet_fs.runs.history import read_history
from birdnet_fs.training import trainer
from birdnet_fs.training.tracking import tracker

BLOCK, WHOLE, LAST = 32_768, 1, 4  # of LevelDB's log format
UNWANTED = ("disable_code", "disable_git", "disable_job_creation", "x_disable_meta", "x_disable_stats")


class Library:
    """Stands in for the library, and keeps what it is given."""

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.saved: list[str] = []
        self.codes: list[int] = []
        self.Settings = lambda **given: given

    def init(self, **given: Any) -> SimpleNamespace:
        self.opened.append(given)
        return SimpleNamespace(
            id=given["id"] or "new",
            log=lambda row, step: self.logged.append((step, row)),
            save=lambda path, base_path, policy: self.saved.append(path[len(base_path) + 1 :]),
            finish=lambda exit_code: self.codes.append(exit_code),
        )


@pytest.fixture
def library(monkeypatch) -> Library:
    found = Library()
    monkeypatch.setitem(sys.modules, "wandb", found)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    find = tracker.importlib.util.find_spec
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: True if name == "wandb" else find(name))
    return found


def test_epochs_test_and_files_go_to_one_offline_run(library: Library, recordings, tmp_path, capsys) -> None:
    run = trainer.train(experiment(recordings, "training.track=wandb"), tmp_path / "watched")
    (opened,) = library.opened
    assert (opened["mode"], opened["id"], opened["project"]) == ("offline", None, "birdnet_fs")
    assert opened["dir"] == str(tmp_path) and opened["name"] == "watched"
    assert opened["config"] == flat(run.experiment) and all(opened["settings"][name] for name in UNWANTED)
    assert f"wandb sync {tmp_path / 'wandb'}" in capsys.readouterr().err
    history = read_history(run.path / "history.csv")
    assert [step for step, _ in library.logged] == [1, 2] and library.codes == [0]
    for (_, row), expected in zip(library.logged, history, strict=True):
        assert row == {name: value for name, value in expected.items() if name != "epoch"}
    assert json.loads((run.path / "tracking.json").read_text()) == {"wandb": {"run_id": "new"}}
    metrics = report_on_held_out(run)
    assert library.opened[1]["id"] == "new" and library.opened[1]["resume"] is None
    step, row = library.logged[-1]
    assert step == 3 and row["test_acc"] == metrics["accuracy"] and library.codes == [0, 0]
    assert library.saved == ["report.html", "metrics.json", "history.csv", "config.json"]


def test_runs_are_sent_only_where_the_environment_says_so(library: Library, recordings, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "online")
    run = trainer.train(experiment(recordings, "training.track=wandb", "training.epochs=1"), tmp_path / "run")
    report_on_held_out(run)
    assert [(o["mode"], o["resume"]) for o in library.opened] == [("online", None), ("online", "must")]


def test_missing_library_is_refused_with_its_extra(recordings, tmp_path, monkeypatch) -> None:
    find = tracker.importlib.util.find_spec
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda name: None if name == "wandb" else find(name))
    with pytest.raises(UserError, match=r"track=wandb needs the library wandb.*pip install 'birdnet_fs\[wandb\]'"):
        trainer.train(experiment(recordings, "training.track=wandb"), tmp_path / "run")


def stored_records(data: bytes) -> Iterator[bytes]:
    """Records of a file of W&B, which is a log of LevelDB after seven bytes."""
    place, record = 7, b""
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:  # no room for a header
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        place += 7 + length
        record += data[place - length : place]
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def test_library_writes_the_run_without_a_network(recordings, tmp_path, monkeypatch) -> None:
    need("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = trainer.train(experiment(recordings, "training.track=wandb"), tmp_path / "watched")
    metrics = report_on_held_out(run)
    first, second = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"), key=lambda path: path.parent.name)

    def rows(path: Path) -> list[dict[str, float]]:
        found = []
        for data in stored_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.history.item:
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                found.append({name: json.loads(value) for name, value in items.items()})
        return found

    history = read_history(run.path / "history.csv")
    written = rows(first)
    assert [row["_step"] for row in written] == [1, 2]
    for row, expected in zip(written, history, strict=True):
        assert {name: row[name] for name in expected if name != "epoch"} == pytest.approx(
            {name: value for name, value in expected.items() if name != "epoch"}
        )
    assert [row["test_acc"] for row in rows(second)] == [metrics["accuracy"]]
    kept = {path.name for path in second.parent.rglob("*") if path.is_file() or path.is_symlink()}
    assert {"report.html", "metrics.json", "history.csv", "config.json"} <= kept
    assert {"wandb-metadata.json", "requirements.txt", "diff.patch"} & kept == set()
