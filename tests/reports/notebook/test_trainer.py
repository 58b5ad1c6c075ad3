"""`bfs.Trainer` against scikit-learn, and against the files that `birdnet-fs train` writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import birdnet_fs
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

import birdnet_fs as bfs
from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.score_table import read_scores
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.reports.notebook.trainer import Trainer, held_out_metrics

CONFIG = """
from birdnet_fs.schema import *

def tiny() -> Experiment:
    return Experiment(
        name="tiny",
        data=Data(root={root!r}, table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
        frontend=FrontEnd(segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0),
        model=Model("cnn/tiny", dropout=0.0),
        training=Training(epochs=2, batch_size=8, learning_rate=3e-3, threads=1),
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small aviary and the config.py of an experiment on it."""
    place = tmp_path_factory.mktemp("notebook")
    make_aviary(place / "aviary", n_species=3, clips_per_species=10, n_soundscapes=0)
    (place / "config.py").write_text(CONFIG.format(root=str(place / "aviary")), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def tiny(folder: Path) -> schema.Experiment:
    names: dict = {}
    exec((folder / "config.py").read_text(encoding="utf-8"), names)
    return names["tiny"]()


@pytest.fixture(scope="module")
def tested(folder: Path, tiny: schema.Experiment) -> Trainer:
    trainer = bfs.Trainer(tiny, folder / "run").train()
    trainer.test()
    return trainer


def test_metrics_are_those_of_sklearn(tested: Trainer) -> None:
    accuracy, precision, recall, f1 = tested.test()
    table = read_scores(tested.output / "scores.csv")
    truth, named = table.targets.argmax(1), table.scores.argmax(1)
    assert len(truth) > 3 and accuracy == accuracy_score(truth, named)
    expected = precision_recall_fscore_support(truth, named, average="weighted", zero_division=0)
    assert (precision, recall, f1) == pytest.approx(expected[:3])
    macro = precision_recall_fscore_support(truth, named, average="macro", zero_division=0)
    assert tested.metrics["precision"] == pytest.approx(macro[0])


def test_run_and_metrics_are_those_of_the_command(folder: Path, tested: Trainer) -> None:
    done = birdnet_fs("train", "config.py:tiny", "-o", "command", cwd=folder)
    for name in ("weights.safetensors", "scores.csv"):
        assert (folder / "command" / name).read_bytes() == (tested.output / name).read_bytes()
    theirs, ours = (json.loads((p / "metrics.json").read_text()) for p in (folder / "command", tested.output))
    assert theirs == ours == tested.metrics
    for row in theirs["per_class"]:
        assert f"{row['name']}: {row['recall']:.1%}\n" in done.stdout


def test_a_finished_run_is_kept_and_tested_without_training(
    tested: Trainer, tiny: schema.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birdnet_fs.reports.notebook.trainer.train", lambda *given, **named: pytest.fail("trained"))
    assert Trainer(tiny, tested.output).test() == tested.test()  # as in a new session
    assert Trainer(tiny, tested.output).train().test() == tested.test()


def test_representation_shows_the_state(tested: Trainer, tiny: schema.Experiment, tmp_path: Path) -> None:
    assert repr(Trainer(tiny)) == "Trainer('tiny', 'runs/tiny'): cnn/tiny, not trained yet"
    accuracy, *_ = tested.test()
    assert repr(tested).startswith(f"Trainer('tiny', '{tested.output}'): cnn/tiny, accuracy {accuracy:.4f}, precision")


def test_wrong_use_is_refused_with_what_to_do(tested: Trainer, tiny: schema.Experiment, tmp_path: Path) -> None:
    import dataclasses

    with pytest.raises(UserError, match=r"Trainer needs an Experiment.* Received: 'config.py:tiny'"):
        Trainer("config.py:tiny")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"holds no finished run of 'tiny'; call train\(\) first"):
        Trainer(tiny, tmp_path / "none").test()
    other = dataclasses.replace(tiny, seed=7)
    with pytest.raises(UserError, match=r"holds a run with other settings \(seed=42, not 7\)"):
        Trainer(other, tested.output).train()
    missing = dataclasses.replace(tiny, data=dataclasses.replace(tiny.data, root=str(tmp_path / "gone")))
    with pytest.raises(UserError, match="gone"):
        Trainer(missing, tmp_path / "run").train()


def test_metrics_of_episodes_are_weighted_by_queries() -> None:
    rows = [
        {"name": "a", "n_queries": 3, "precision": 1.0, "recall": 0.5, "f1": 0.25},
        {"name": "b", "n_queries": 1, "precision": 0.0, "recall": 0.5, "f1": 0.25},
        {"name": "c", "n_queries": 0, "precision": None, "recall": None, "f1": None},
    ]
    assert held_out_metrics({"test_acc": 0.75, "per_class": rows}) == (0.75, 0.75, 0.5, 0.25)


def test_undefined_metrics_are_nan() -> None:
    names = ("accuracy", "weighted_precision", "weighted_recall", "weighted_f1")
    assert np.isnan(held_out_metrics(dict.fromkeys(names))).all()
