"""What comes out of a study: best.py is the best trial, the table holds all, the page is whole and loads nothing."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from html_page import check_page

from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.errors import UserError
from birdnet_fs.reports.study import write_results
from birdnet_fs.schema import Categorical, Checkpoints, Experiment, Float, Space, Training
from birdnet_fs.tuning import worker
from birdnet_fs.tuning.study import Study
from birdnet_fs.tuning.trial_summary import best_first

BASE = Experiment(name="<b>base & co", seed=3, training=Training(epochs=4, checkpoints=Checkpoints(n_best=2)))
SPACE = Space(
    {
        "training.learning_rate": Float(1e-4, 1e-1, log=True),
        "model.dropout": Float(0.0, 0.5),
        "frontend.fmax_hz": Categorical((8_000.0, 10_000.0, 20_000.0)),
        "model": Categorical(("cnn/tiny", "cnn/small")),
    },
    derive=lambda drawn, base: {"training.schedule.warmup_epochs": 2 * drawn["model.dropout"]},
    n_trials=120,  # of which 10 to 20 end finished: with fewer, chance decides which setting matters
    sampler="random",
    n_startup_trials=3,
    n_warmup_epochs=2,
)


def learn(experiment: Experiment, folder: Path, *, pretrained, read, watch) -> None:
    """The value is of the learning rate, and a little of nothing else."""
    value = 0.9 - 0.1 * abs(np.log10(experiment.training.learning_rate) + 2)
    if experiment.training.learning_rate > 0.05:
        raise RuntimeError("<script>out of memory</script>")
    history: list[dict[str, float]] = []
    for epoch in range(1, 5):
        history.append({"epoch": epoch, "val_acc": value * epoch / 4})
        watch("val_acc", history)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    worker.work(Study(place, BASE, SPACE), train_one=learn, free_memory=lambda: None)
    write_results(place, "base")
    return place


def test_best_is_an_experiment_with_the_best_settings(folder: Path) -> None:
    study = Study(folder, BASE, SPACE)
    best = best_first(study.trials())[0]
    found = load_experiment(f"{folder / 'best.py'}:base")
    assert found.name == "<b>base & co_best"
    assert found.training.checkpoints.n_best == 2
    assert found.training.learning_rate == pytest.approx(best.params["training.learning_rate"], rel=1e-5)
    assert found.training.schedule.warmup_epochs == pytest.approx(2 * best.params["model.dropout"], rel=1e-5)
    assert (found.model.name, found.seed, found.data) == (best.params["model"], BASE.seed, BASE.data)
    assert (
        load_experiment(
            f"{folder / 'best.py'}:base", ["training.checkpoints.select=last", "training.epochs=7"]
        ).training.epochs
        == 7
    )


def test_the_table_holds_every_trial(folder: Path) -> None:
    trials = Study(folder, BASE, SPACE).trials()
    with open(folder / "study.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [trial.number for trial in trials]
    assert {row["state"] for row in rows} == {"finished", "pruned", "impossible", "failed"}
    for row, trial in zip(rows, trials, strict=True):
        assert row["value"] == ("" if trial.value is None else str(trial.value))
        assert [f"{key}={row[key]}" for key in row if "." in key or key == "model"] == list(trial.settings)
        assert bool(row["reason"]) == (row["state"] != "finished")


def test_the_page_is_whole_and_loads_nothing(folder: Path) -> None:
    html = (folder / "study.html").read_text(encoding="utf-8")
    assert "<b>base" not in html
    check_page(html)
    assert "&lt;script&gt;out of memory" in html
    assert html.count("<svg") == 3
    for reference in set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", html)):
        assert html.count(f'id="{reference}"') == 1  # three figures on one page
    trials = Study(folder, BASE, SPACE).trials()
    for state in ("finished", "pruned", "impossible", "failed"):
        assert f"<b>{sum(trial.state == state for trial in trials)}</b>" in html
    assert "must hold; set frontend.fmin_hz or frontend.fmax_hz" in html


def test_the_setting_that_decides_is_the_most_important(folder: Path) -> None:
    html = (folder / "study.html").read_text(encoding="utf-8")
    table = html[html.index("Which settings matter") : html.index("Setting by setting")]
    keys = re.findall(r'class="key">([^<]+)<', table)
    shares = [float(share) for share in re.findall(r"<td>([\d.]+) %</td>", table)]
    assert keys[0] == "training.learning_rate"
    assert set(keys) == set(SPACE.values)
    assert shares[0] > 80
    assert sum(shares) == pytest.approx(100, abs=0.2)  # rounded to a tenth each


def test_a_young_study_says_that_there_is_little_yet(tmp_path: Path) -> None:
    Study(tmp_path, BASE, SPACE)
    results = write_results(tmp_path, "base")
    assert results.best is None
    assert not (tmp_path / "best.py").exists()
    assert "No trial has been trained to its end" in (tmp_path / "study.html").read_text(encoding="utf-8")
    with pytest.raises(UserError, match="A study with"):
        write_results(tmp_path / "nowhere", "base")
