"""The scripts as shipped on a real SLURM: preemption, time limit, memory and cancellation; a training ends the same."""

import contextlib
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import ENVIRONMENT, ROOT, birdnet_fs
from slurm import Slurm

SCRIPTS = ROOT / "slurm_scripts"
SMALL = ("--gres=none", "--mem=2000", "--cpus-per-task=4", "--time=10")  # sbatch options before those of the script
# a command that takes 40 steps of 0.1 s, saves them when a signal stops it, and goes on from there
FAKE = """\
#!{python}
import json, os, pathlib, signal, sys, time

out = pathlib.Path(sys.argv[sys.argv.index("-o") + 1] + "".join(sys.argv[-2:]))
say = lambda text: out.open("a").write(text + "\\n")
done = int(out.with_suffix(".done").read_text()) if out.with_suffix(".done").exists() else 0

def stop(number, frame):
    out.with_suffix(".done").write_text(str(done))
    say(f"saved {{done}} {{signal.Signals(number).name}}")
    sys.exit(128 + number)

for number in (signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, stop)
say(f"from {{done}} " + json.dumps(sys.argv[1:]))
n_bytes = os.environ.get("TAKE_BYTES_IN_TASK_" + sys.argv[-1], "0")
taken = bytearray(int(n_bytes))
while done < 40:
    done += 1
    time.sleep(0.1)
say("end")
"""


def sbatch(slurm: Slurm, place: Path, script: str, *arguments: object, options: tuple[str, ...] = ()) -> str:
    """Submit a script as shipped; `birdnet-fs` is the program `bin/birdnet-fs` of the place. Returns the job."""
    environment = {"PATH": f"{place / 'bin'}:{os.environ['PATH']}", "BIRDNET_FS_SCRIPTS": str(SCRIPTS), **ENVIRONMENT}
    command = ["sbatch", "--parsable", *SMALL, *options, SCRIPTS / script, *arguments]
    return slurm.call(*command, cwd=place, env=environment)


def program(place: Path, text: str) -> None:
    (place / "bin").mkdir()
    (place / "bin" / "birdnet-fs").write_text(text)
    (place / "bin" / "birdnet-fs").chmod(0o755)


def log(place: Path) -> str:
    return "\n".join(f"{file.name}:\n{file.read_text()}" for file in sorted(place.glob("*.log")))


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.is_file() else []


def ended(slurm: Slurm, job: str) -> bool:
    return not set(slurm.states(job).values()) & {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", ""}


def preempt(slurm: Slurm, n_cpus: int) -> str:
    """Submit a job that needs the place of others; returns its number."""
    return slurm.call("sbatch", "--parsable", "-p", "high", f"-c{n_cpus}", "--mem=10", "-o", os.devnull, "--wrap=true")


@pytest.mark.slurm
def test_job_that_a_signal_stops_is_requeued_and_goes_on_but_not_when_it_is_canceled(
    slurm: Slurm, tmp_path: Path
) -> None:
    program(tmp_path, FAKE.format(python=sys.executable))
    arguments = ("config.py:x", "a key=with spaces", "-o", tmp_path / "out")
    job = sbatch(slurm, tmp_path, "folds.sbatch", *arguments, options=("--array=0-1",))
    out = [tmp_path / f"out--fold{task}" for task in range(2)]
    slurm.wait("the start of both tasks", lambda: all(map(lines, out)))
    passed_on = json.loads(lines(out[1])[0].split(maxsplit=2)[2])
    assert passed_on == [*map(str, ("cv", *arguments, "--fold", 1))]
    preempt(slurm, 8)  # both
    slurm.wait("both tasks", lambda: ended(slurm, job))
    assert slurm.states(job) == {"0": "COMPLETED", "1": "COMPLETED"}, log(tmp_path)
    assert {facts["Restarts"] for facts in slurm.jobs(job).values()} == {"1"} and "requeued after" not in log(tmp_path)
    for file in out:
        said = lines(file)
        assert said[1].startswith("saved") and said[1].endswith("TERM") and said[-1] == "end", log(tmp_path)
        assert said[2].split()[:2] == ["from", said[1].split()[1]], "it goes on from what it saved"
    canceled = sbatch(slurm, tmp_path, "train.sbatch", "-o", "canceled", "x=1", "y=2")
    slurm.wait("the start of the job", lambda: bool(lines(tmp_path / "canceledx=1y=2")))
    slurm.call("scancel", canceled)
    slurm.wait("the end of the job", lambda: ended(slurm, canceled))
    assert slurm.states(canceled) == {"": "CANCELLED"} and slurm.jobs(canceled)[""]["Restarts"] == "0"
    assert "SIGTERM" in lines(tmp_path / "canceledx=1y=2")[-1] and "requeued" not in log(tmp_path)


@pytest.mark.slurm
@pytest.mark.slow
def test_job_at_its_time_limit_is_requeued_and_one_without_memory_is_not(slurm: Slurm, tmp_path: Path) -> None:
    program(tmp_path, FAKE.replace("< 40", "< 400").format(python=sys.executable))
    taken = {"TAKE_BYTES_IN_TASK_1": "900000000"} if slurm.limits_memory else {}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in taken.items():
            patch.setenv(name, value)
        job = sbatch(slurm, tmp_path, "folds.sbatch", "x", "-o", tmp_path / "out", options=("--array=0-1", "--mem=300"))
    out = [tmp_path / f"out--fold{task}" for task in range(2)]
    slurm.wait("the start of both tasks", lambda: all(map(lines, out)))
    if not slurm.limits_memory:  # as the kernel does when the machine has no memory
        slurm.call("scancel", "--signal=KILL", f"{job}_1")
    slurm.call("scontrol", "update", f"JobId={job}_0", "TimeLimit=1")
    slurm.wait("the signal before the time limit", lambda: len(lines(out[0])) > 2, 150)
    slurm.call("scontrol", "update", f"JobId={job}_0", "TimeLimit=10")
    slurm.wait("both tasks", lambda: ended(slurm, job), 150)
    said = lines(out[0])
    assert said[1].endswith("USR1") and said[2].split()[:2] == ["from", said[1].split()[1]] and said[-1] == "end"
    assert slurm.jobs(job)["0"]["Restarts"] == "1" and "requeued after the signal" in log(tmp_path)
    assert slurm.states(job)["0"] == "COMPLETED"
    assert slurm.states(job)["1"] == "OUT_OF_MEMORY" if slurm.limits_memory else "CANCELLED"
    assert slurm.jobs(job)["1"]["Restarts"] == "0"


def test_job_of_pbs_stops_before_its_time_limit_and_is_run_again(tmp_path: Path) -> None:
    """With a stand-in of qrerun, as no PBS is at hand."""
    program(tmp_path, FAKE.format(python=sys.executable))
    (tmp_path / "bin" / "qrerun").write_text('#!/bin/bash\necho "$@" >> rerun\n')
    (tmp_path / "bin" / "qrerun").chmod(0o755)
    facts = {"PBS_JOBID": "7[1].x", "PBS_O_WORKDIR": str(tmp_path), "PBS_ARRAY_INDEX": "1", "LIMIT_S": "122"}
    facts |= {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "BIRDNET_FS_SCRIPTS": str(SCRIPTS)}
    facts["ARGS"] = "config.py:x 'a key=with, spaces' -o out"
    for status in (128 + signal.SIGUSR1, 0):
        done = subprocess.run(["bash", SCRIPTS / "folds.pbs"], env={**os.environ, **facts}, timeout=60)
        assert done.returncode == status
        facts["LIMIT_S"] = "86400"
    said = lines(tmp_path / "out--fold1")
    assert json.loads(said[0].split(maxsplit=2)[2]) == [
        "cv",
        "config.py:x",
        "a key=with, spaces",
        *["-o", "out", "--fold", "1"],
    ]
    assert said[1].endswith("USR1") and said[2].split()[1] == said[1].split()[1] != "0" and said[-1] == "end"
    assert lines(tmp_path / "rerun") == ["7[1].x"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_pass_shellcheck() -> None:
    files = [*SCRIPTS.glob("*.sbatch"), *SCRIPTS.glob("*.sh"), *SCRIPTS.glob("*.pbs")]
    done = subprocess.run(["shellcheck", "-x", *files], cwd=ROOT, capture_output=True, text=True)
    assert len(files) >= 7 and done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.sbatch")), ids=lambda path: path.name)
def test_script_asks_for_a_signal_and_a_requeue_and_passes_its_arguments_on(script: Path) -> None:
    text = script.read_text()
    for line in ("--signal=B:USR1@120", "--requeue", "--open-mode=append"):
        assert f"#SBATCH {line}\n" in text
    assert text.splitlines()[-1].startswith("run birdnet-fs ") and '"$@"' in text


CONFIG = """
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model, Schedule, Training


def small() -> Experiment:
    return Experiment(
        name="small",
        data=Data(root="recordings", n_folds={n_folds}),
        frontend=FrontEnd(
            sample_rate_hz=8_000, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
        ),
        model=Model("cnn/tiny", dropout=0.2),
        training=Training(epochs={epochs}, batch_size=8, schedule=Schedule(warmup_epochs=0), threads=1),
    )
"""
COMMAND = ("config.py:small", "-o", "cv")


def experiment(place: Path, *, n_folds: int, epochs: int) -> None:
    """config.py, and two classes of six recordings; `birdnet-fs` is this package."""
    (place / "config.py").write_text(CONFIG.format(n_folds=n_folds, epochs=epochs))
    rng = np.random.default_rng(0)
    for i in range(2):
        (place / "recordings" / f"class{i}").mkdir(parents=True)
        for n in range(6):
            sound = 0.1 * np.sin(2 * np.pi * (500 + 800 * i) * np.arange(12_000) / 8_000) + rng.normal(0, 0.05, 12_000)
            soundfile.write(place / "recordings" / f"class{i}" / f"{n}.wav", sound, 8_000)
    program(place, f'#!/bin/bash\nexec {sys.executable} -m birdnet_fs.cli.main "$@"\n')


def results(place: Path) -> dict[str, object]:
    """The out-of-fold table, cv.json, and the weights and metrics of every fold."""
    weights = {file.parent.name: file.read_bytes() for file in place.glob("cv/fold?/weights.safetensors")}
    history = {
        file.parent.name: [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file.open())]
        for file in place.glob("cv/fold?/history.csv")
    }
    return {
        "oof": (place / "cv" / "oof.csv").read_bytes(),
        "cv": json.loads((place / "cv" / "cv.json").read_text()),
        "weights": weights,
        "history": history,
    }


def at_work(place: Path, fold: int) -> bool:
    """Whether some epochs of a fold are done and some are not."""
    folder = place / "cv" / f"fold{fold}"
    return len(lines(folder / "history.csv")) > 3 and not (folder / "config.json").exists()


def undisturbed(place: Path) -> dict[str, object]:
    """Results of one process, which are moved away."""
    birdnet_fs("cv", *COMMAND, cwd=place)
    found = results(place)
    (place / "cv").rename(place / "undisturbed")
    return found


def kill_training(place: Path, fold: int) -> None:
    """Kill the process that trains a fold, as the kernel does on a node without memory; its script lives on."""
    wanted = b"\0".join([b"--fold", str(fold).encode(), b""])
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if b"birdnet_fs.cli.main" in command and command.endswith(wanted) and (process / "cwd").readlink() == place:
                found.append(int(process.name))
    assert len(found) == 1, found
    os.kill(found[0], signal.SIGKILL)


@pytest.mark.slurm
def test_array_of_two_folds_of_which_one_is_preempted_ends_with_the_results_of_an_undisturbed_run(
    slurm: Slurm, tmp_path: Path
) -> None:
    place = tmp_path
    experiment(place, n_folds=2, epochs=300)
    expected = undisturbed(place)
    job = sbatch(slurm, place, "folds.sbatch", *COMMAND, options=("--array=0-1",))
    slurm.wait("training", lambda: at_work(place, 0) or at_work(place, 1), 200)
    preempt(slurm, 4)
    slurm.wait("both folds", lambda: ended(slurm, job), 300)
    assert slurm.states(job) == {"0": "COMPLETED", "1": "COMPLETED"}, log(place)
    assert sorted(facts["Restarts"] for facts in slurm.jobs(job).values()) == ["0", "1"]
    birdnet_fs("cv", *COMMAND, cwd=place)
    assert results(place) == expected


@pytest.mark.slurm
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_array_of_five_folds_preempted_out_of_time_out_of_memory_and_killed_ends_with_the_same_results(
    slurm: Slurm, tmp_path: Path
) -> None:
    place = tmp_path
    experiment(place, n_folds=5, epochs=1500)
    expected = undisturbed(place)
    job = sbatch(slurm, place, "folds.sbatch", *COMMAND, options=("--array=0-4", "--hold"))
    if slurm.limits_memory:
        slurm.call("scontrol", "update", f"JobId={job}_4", "MinMemoryNode=100")
    slurm.call("scontrol", "release", job)
    slurm.wait("training of fold 0", lambda: at_work(place, 0), 300)
    slurm.call("scontrol", "update", f"JobId={job}_0", "TimeLimit=1")  # the signal comes within 30 s
    slurm.wait("the requeue of fold 0", lambda: slurm.jobs(job)["0"]["Restarts"] == "1", 300)
    slurm.call("scontrol", "update", f"JobId={job}_0", "TimeLimit=20")
    slurm.wait("training of another fold", lambda: any(at_work(place, fold) for fold in (1, 2, 3)), 300)
    preempt(slurm, 8)
    slurm.wait(
        "the requeue of a fold", lambda: any(f["Restarts"] != "0" for t, f in slurm.jobs(job).items() if t != "0")
    )
    killed = next(fold for fold in (3, 2, 1) if not (place / "cv" / f"fold{fold}" / "config.json").exists())
    slurm.wait("training of the fold to be killed", lambda: at_work(place, killed), 400)
    kill_training(place, killed)
    if not slurm.limits_memory:
        slurm.wait("training of fold 4", lambda: at_work(place, 4), 400)
        kill_training(place, 4)
    slurm.wait("all folds", lambda: ended(slurm, job), 600)
    states = slurm.states(job)
    assert states["4"] in ("OUT_OF_MEMORY", "FAILED") and states[str(killed)] == "FAILED", (states, log(place))
    assert {states[str(fold)] for fold in range(4) if fold != killed} == {"COMPLETED"}, log(place)
    again = sbatch(slurm, place, "folds.sbatch", *COMMAND, options=(f"--array={killed},4",))
    slurm.wait("the two folds", lambda: ended(slurm, again), 300)
    birdnet_fs("cv", *COMMAND, cwd=place)
    assert results(place) == expected


def test_signal_numbers_of_the_scripts_are_those_of_this_system() -> None:
    text = (SCRIPTS / "environment.sh").read_text()
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)
    assert " | ".join(str(128 + number) for number in numbers) + ") requeue" in text
