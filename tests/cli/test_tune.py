"""`birdnet-fs tune` as users run it: results, user errors, interrupts and killed processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT, birdnet_fs

from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.runs.history import read_history

CONFIG = """
from birdnet_fs.schema import (
    Categorical, Checkpoints, Data, Experiment, Float, FrontEnd, Model, Schedule, Space, Training
)


def tiny() -> Experiment:
    return Experiment(
        name="tiny",
        data=Data(root="recordings", table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
        frontend=FrontEnd(
            segment_s=3.0, sample_rate_hz=16_000, n_mels=32, fmin_hz=300.0, fmax_hz=8_000.0, normalize="z_score"
        ),
        model=Model("cnn/tiny", dropout=0.0),
        training=Training(
            epochs=2, batch_size=8, schedule=Schedule(warmup_epochs=0), checkpoints=Checkpoints("best"), threads=1
        ),
    )


def space_tiny() -> Space:
    return Space(
        {"training.learning_rate": Float(1e-4, 1e-1, log=True), "model.dropout": Float(0.0, 0.4, step=0.1)},
        n_trials=3, n_startup_trials=3, n_warmup_epochs=1,
    )


def space_wrong() -> Space:
    return Space({"training.learning_rte": Float(1e-4, 1e-1)})
"""


def start_command(*arguments: object, cwd: Path, ignore_sigint: bool = False) -> "subprocess.Popen[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KERAS_BACKEND": "torch"}
    command = [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, arguments)]
    handler = (
        signal.SIG_IGN if ignore_sigint else signal.SIG_DFL
    )  # set here, since background shells start processes that ignore SIGINT
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, handler),
    )  # fmt: skip


def tune(*arguments: object, cwd: Path, check: bool = True) -> tuple[int, str, str]:
    done = birdnet_fs("tune", *arguments, cwd=cwd, check=check)
    return done.returncode, done.stdout, done.stderr


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "study.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def at_work(folder: Path) -> list[int]:
    """Process numbers of the workers that are training."""
    found = []
    for path in folder.glob("trials/*/alive.json"):
        try:
            found.append(json.loads(path.read_text())["pid"])
        except FileNotFoundError:
            continue
    return [pid for pid in found if lives(pid)]  # one that is killed as its trial ends leaves the file


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    make_aviary(folder / "recordings", n_species=3, clips_per_species=10, n_soundscapes=0)
    (folder / "config.py").write_text(CONFIG, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tuned(place: Path) -> tuple[Path, str, str]:
    _, out, err = tune("config.py:tiny", "-o", "study", cwd=place)
    return place / "study", out, err


def test_best_trial_is_reproduced_by_train(tuned: tuple[Path, str, str], place: Path) -> None:
    folder, out, err = tuned
    rows = table(folder)
    assert [row["state"] for row in rows] == ["finished"] * 3
    best = max(rows, key=lambda row: float(row["value"]))
    assert f"trial {best['trial']}" in out
    assert f"training.learning_rate={best['training.learning_rate']}" in out
    assert "birdnet-fs train study/best.py:tiny" in err
    assert (folder / "study.html").is_file()
    params = json.loads((folder / "best_params.json").read_text())
    assert params["trial"] == int(best["trial"]) and params["value"] == float(best["value"])
    assert str(params["params"]["training.learning_rate"]) == best["training.learning_rate"]
    config = json.loads((folder / "best_config.json").read_text())
    assert str(config["training"]["learning_rate"]) == best["training.learning_rate"]
    birdnet_fs("train", "study/best.py:tiny", "-o", "again", cwd=place)
    columns = [
        [row["val_macro_auroc"] for row in read_history(path / "history.csv")]
        for path in (place / "again", folder / "trials" / f"{int(best['trial']):04d}")
    ]
    assert columns[0] == columns[1]
    assert (place / "again" / "metrics.json").is_file()


def test_finished_study_is_kept(tuned: tuple[Path, str, str], place: Path) -> None:
    folder, out, _ = tuned
    journal = (folder / "journal.log").read_bytes()
    _, again, err = tune("config.py:tiny", "-o", "study", "--workers", 2, cwd=place)
    assert again == out
    assert "0 of 3 are missing" in err
    assert (folder / "journal.log").read_bytes() == journal


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["config.py:tiny", "--space", "space_nothing"], "config.py has no search space 'space_nothing'"),
        (["config.py:tiny", "--pruner", "mean"], "pruner must be one of median, hyperband, none"),
        (["config.py:tiny", "--space", "space_wrong"], "Did you mean 'training.learning_rate'?"),
    ],
)
def test_user_errors_are_one_sentence(arguments: list[str], words: str, place: Path) -> None:
    status, out, err = tune(*arguments, cwd=place, check=False)
    assert status == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert out == ""
    assert not (place / "runs" / "tiny-tune" / "journal.log").exists()


def test_study_without_a_usable_trial_ends_with_an_error(place: Path) -> None:
    """Every draw is impossible: the lowest band lies above the highest."""
    (place / "impossible.py").write_text(
        f"{CONFIG}\n\nimport birdnet_fs.schema as schema\n\n\ndef space_tiny() -> schema.Space:\n"
        "    return schema.Space({'frontend.fmin_hz': schema.Categorical((7_990.0, 7_995.0))}, n_trials=2)\n"
    )
    done = birdnet_fs("tune", "impossible.py:tiny", "-o", "unusable", cwd=place, check=False)
    assert done.returncode == 2 and "None of the 2 trials was trained to its end" in done.stderr
    assert (place / "unusable" / "study.csv").is_file() and not (place / "unusable" / "best.py").exists()


def test_cfg_prints_the_search_space_without_training(place: Path) -> None:
    _, out, _ = tune("config.py:tiny", "--trials", 7, "--cfg", "-o", "nothing", cwd=place)
    assert "n_trials=7" in out
    assert "training.learning_rate from Float(low=0.0001" in out
    assert not (place / "nothing").exists()


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        # sent by a cluster to a background script, which ignores Ctrl-C
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_interrupted_study_can_be_continued(number: signal.Signals, place: Path) -> None:
    folder, ignore_sigint = place / f"stopped{number}", number == signal.SIGTERM
    process = start_command(
        "tune", "config.py:tiny", "training.epochs=500", "-o", folder, cwd=place, ignore_sigint=ignore_sigint
    )
    wait_for(lambda: (folder / "trials" / "0000" / "history.csv").is_file())
    workers = at_work(folder)
    process.send_signal(number)
    _, err = process.communicate(timeout=500)  # a busy machine may take any time
    assert process.returncode == 128 + number, err
    assert "Traceback" not in err
    assert "3 of 3 trials are missing; the same command continues" in err
    assert workers
    assert not any(lives(pid) for pid in workers)
    assert [row["state"] for row in table(folder)] == ["lost", "waiting"]
    assert table(folder)[0]["reason"] == "interrupted"


@pytest.mark.slow
def test_study_of_two_workers_survives_kills(place: Path) -> None:
    """A worker is killed, then the command alone (its workers end by themselves), then command and workers at once."""
    folder, errors = place / "killed", []
    given = ["tune", "config.py:tiny", "training.epochs=15", "--trials", 20, "--workers", 2, "-o", "killed"]
    given += ["--pruner", "none"]

    def n_done() -> int:
        text = (folder / "journal.log").read_text() if (folder / "journal.log").is_file() else ""
        return sum('"op_code":6' in line and '"values":[' in line for line in text.splitlines())

    process = start_command(*given, cwd=place)
    wait_for(lambda: n_done() >= 3 and len(at_work(folder)) == 2)
    os.kill(at_work(folder)[0], signal.SIGKILL)
    wait_for(lambda: n_done() >= 7 and at_work(folder))
    workers = at_work(folder)
    process.kill()
    errors.append(process.communicate(timeout=60)[1])
    wait_for(lambda: not any(lives(pid) for pid in workers), 30)

    before = n_done()
    process = start_command(*given, cwd=place)
    wait_for(lambda: n_done() >= before + 2 and at_work(folder))
    workers = at_work(folder)
    for pid in (process.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    errors.append(process.communicate(timeout=60)[1])

    _, _, err = tune(*given[1:], cwd=place)
    assert "another takes its place" in errors[0]
    assert "of 20 are missing" in err
    rows = table(folder)
    assert sum(row["state"] == "finished" for row in rows) == 20
    lost = [row for row in rows if row["state"] == "lost"]
    assert 1 <= len(lost) <= 5  # one, then two that were stopped, then two; some may be between two trials
    assert {row["state"] for row in rows} <= {"finished", "lost"}
    for row in lost:  # each was tried again
        same = [other for other in rows if other["training.learning_rate"] == row["training.learning_rate"]]
        assert any(other["state"] == "finished" for other in same)
    assert not at_work(folder)
    assert len(list(folder.glob("trials/*/weights.safetensors"))) == 3
