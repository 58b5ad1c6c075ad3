"""`birdnet-fs cluster` and `birdnet-fs status`: shards in processes and on SLURM, killed, merged to what one writes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import embedding_store
import numpy as np
import pytest
import soundfile
from command_line import ENVIRONMENT, birdnet_fs, started
from killed import contents, leftovers
from slurm import Slurm

from birdnet_fs.cluster.plan import read_plan, result_file
from birdnet_fs.core.errors import UserError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an encoder, and 13 recordings of which one is broken and one takes long."""
    embedding_store.write_encoder(tmp_path)
    embedding_store.write_recordings(tmp_path / "in", 11)
    (tmp_path / "in" / "broken.wav").write_bytes(b"x")
    embedding_store.write_recordings(tmp_path / "in" / "long", 1, seconds=1800)
    return tmp_path


EMBED = ["embed", "small.onnx", "in", "--card", "small.json", "--threads", 1]


def shards(folder: Path) -> list[int]:
    """Numbers of the shards whose results are there."""
    return [int(file.stem) for file in sorted(folder.glob("*.parquet"))]


def status(folder: Path, *, cwd: Path) -> tuple[int, str]:
    done = birdnet_fs("status", folder, cwd=cwd, check=False)
    return done.returncode, done.stdout


def test_killed_shards_are_done_by_the_same_command_and_the_store_is_that_of_one_process(place: Path) -> None:
    birdnet_fs(*EMBED, "-o", "one", cwd=place)
    command = ["cluster", *EMBED, "-o", "out", "--shards", 3]
    assert "13 recordings" in birdnet_fs(*command, "--dry-run", cwd=place).stdout
    assert not (place / "out.shards").exists() and not (place / "out").exists()
    program = started(*command, "--local", 3, cwd=place)
    long = next(n for n in range(3) if n == shard_of(place / "out.shards", "long/r00.wav", program))
    wait(lambda: (place / "out.shards" / f"{long:05d}" / "store.json").is_file())
    worker = child(program.pid, f"--shard {long}")
    os.kill(worker, signal.SIGSTOP)
    code, table = status(place / "out", cwd=place)
    assert code == 3 and "running" in table and f"process {worker} on" in table, table
    os.kill(worker, signal.SIGKILL)
    _, err = program.communicate(timeout=120)
    assert program.returncode == 1 and f"shard {long} failed" in err and "Traceback" not in err, err
    assert shards(place / "out.shards") == [n for n in range(3) if n != long], "the others go on"
    code, table = status(place / "out", cwd=place)
    assert code == 1 and f"shard {long}" in table and "2 done" in table and "merged" in table, table
    before = [result_file(place / "out.shards", n).stat().st_mtime_ns for n in shards(place / "out.shards")]
    done = birdnet_fs(*command, "--local", 1, cwd=place)
    assert done.stdout == "12 ok, 0 partial, 1 quarantined; out\n"
    after = [result_file(place / "out.shards", n).stat().st_mtime_ns for n in range(3) if n != long]
    assert before == after, "only what is missing is done"
    assert contents(place / "out") == contents(place / "one")
    assert status(place / "out", cwd=place)[0] == 0 and status(Path("out.shards"), cwd=place)[0] == 0
    assert birdnet_fs(*command, cwd=place).stdout == done.stdout, "merging needs neither SLURM nor --local"
    code, table = status(Path("one"), cwd=place)
    assert code == 0 and "broken.wav" in table and "quarantined" in table
    assert leftovers(place) == [] and list(place.rglob(".*.lock")) == []


def wait(until: Callable[[], bool], within_s: float = 120.0) -> None:
    end = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def shard_of(folder: Path, name: str, program: "subprocess.Popen[str]") -> int:
    wait(lambda: (folder / "plan.json").is_file() or program.poll() is not None)
    lists = {int(f.stem): [path for path, _ in json.loads(f.read_text())] for f in folder.glob("0*.json")}
    return next(number for number, paths in lists.items() if name in paths)


def child(parent: int, words: str) -> int:
    """The child process with these words at the end of its command."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "-ww", "--ppid", str(parent)], capture_output=True, text=True
    ).stdout
    return next(int(line.split()[0]) for line in listed.splitlines() if line.rstrip().endswith(words))


def test_stopped_command_stops_its_shards_and_goes_on(place: Path) -> None:
    command = ["cluster", *EMBED, "-o", "out", "--shards", 2, "--local", 2]
    program = started(*command, cwd=place)
    wait(lambda: any((place / "out.shards").glob("*/store.json")) or program.poll() is not None)
    os.kill(program.pid, signal.SIGTERM)
    _, err = program.communicate(timeout=60)
    assert program.returncode == 128 + signal.SIGTERM and "the same command" in err
    assert list((place / "out.shards").glob(".*.lock")) == [] and leftovers(place) == []
    birdnet_fs(*command, cwd=place)
    birdnet_fs(*EMBED, "-o", "one", cwd=place)
    assert contents(place / "out") == contents(place / "one")


REFUSED = [
    ([*EMBED, "-o", "o", "--shards", 2], "Give --local N to work here"),
    ([*EMBED, "-o", "o"], "--shards must be 1 or more"),
    ([*EMBED, "-o", "o", "--shards", 99, "--local", 1], "--shards must be in 1..13, for 13 recordings"),
    ([*EMBED, "-o", "o", "--shards", 2, "--shard", 2], "--shard must be in 0..1"),
    ([*EMBED, "-o", "o", "--shards", 2, "--shard", 1, "--local", 1], "Only one of --shard, --local"),
    ([*EMBED, "-o", "o", "--shards", 2, "--local", 1, "--dtyp", "x"], "No such option: --dtyp"),
    ([*EMBED, "-o", "o", "--shards", 2, "--local", 1, "--to", "cvs"], "--to must be"),
    (["train", "x", "-o", "o", "--shards", 2, "--local", 1], "divides analyze or embed. Received: 'train'"),
    (["embed", "nowhere", "in", "-o", "o", "--shards", 2, "--local", 1], "nowhere does not exist"),
    (["analyze", "in", "nowhere", "-o", "o", "--shards", 2, "--local", 1], "nowhere does not exist"),
    (["analyze", "in", "in", "-o", "o", "--rtype", "csvv", "--shards", 2], "Unknown output format 'csvv'"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_wrong_arguments_are_refused(
    arguments: list[object], words: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no SLURM, as on most machines
    done = birdnet_fs("cluster", *arguments, cwd=place, check=False)
    assert done.returncode == 2 and words in done.stderr
    assert not (place / "o").exists()


def test_shards_of_other_recordings_or_settings_are_refused_and_speed_may_change(place: Path) -> None:
    shutil.rmtree(place / "in" / "long")
    command = ["cluster", *EMBED, "-o", "out", "--shards", 2]
    birdnet_fs(*command, "--shard", 1, cwd=place)
    birdnet_fs(*command, "--batch_size", 3, "--shard", 0, cwd=place)
    assert shards(place / "out.shards") == [0, 1] and read_plan(place / "out.shards").n_recordings == 12
    for more in (["--dtype", "float32"], ["--overlap", 0.1, "--shard", 0]):
        done = birdnet_fs(*command, *more, cwd=place, check=False)
        assert done.returncode == 2 and f"shards of another plan, with {str(more[0])[2:]}" in done.stderr
    embedding_store.write_recordings(place / "in" / "new", 1)
    done = birdnet_fs(*command, cwd=place, check=False)
    assert done.returncode == 2 and "shards of another plan, of 12 recordings" in done.stderr


def synthetic(folder: Path, n: int) -> Path:
    """Recordings of 1-8 s in ten folders, every 40th broken."""
    rng = np.random.default_rng(0)
    for number in range(n):
        file = folder / f"site{number % 10}" / f"20240501_{number:06d}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        if number % 40 == 7:
            file.write_bytes(b"no audio")
        else:
            n_samples = int(rng.uniform(1, 8) * 8_000)
            tone = np.sin(2 * np.pi * rng.uniform(300, 3_000) * np.arange(n_samples) / 8_000)
            soundfile.write(file, 0.2 * tone + rng.normal(0, 0.05, n_samples), 8_000)
    return folder


def _has_more(folder: Path, before: int, program: "subprocess.Popen[str]") -> bool:
    return program.poll() is not None or (folder.is_dir() and len(os.listdir(folder)) > before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", ["analyze", "embed"])
def test_two_kills_of_each_of_four_shards_of_200_recordings_change_no_byte(
    verb: str, untrained: Path, tmp_path: Path
) -> None:
    synthetic(tmp_path / "in", 200)
    more = ["--rtype", "csv,raven", "--min_conf", 0, "--combined", "csv,parquet", "--workers", 1]
    command = [verb, untrained, "in", *(more if verb == "analyze" else ["--batch_size", 1])]
    birdnet_fs(*command, "-o", "one", cwd=tmp_path)
    sharded = ["cluster", *command, "-o", "out", "--shards", 4]
    rng = np.random.default_rng(1)
    for number in range(4):
        work = tmp_path / "out.shards" / f"{number:05d}"
        for _ in range(2):
            program = started(*sharded, "--shard", number, cwd=tmp_path)
            done = work / (".done" if verb == "analyze" else "parts")
            before = len(os.listdir(done)) if done.is_dir() else 0
            wait(partial(_has_more, done, before, program))
            time.sleep(rng.uniform(0, 0.3))
            program.kill()
            _, err = program.communicate()
            assert program.returncode == -signal.SIGKILL, err
    assert birdnet_fs("status", "out", cwd=tmp_path, check=False).returncode == 1
    birdnet_fs(*sharded, "--local", 2, cwd=tmp_path)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    assert birdnet_fs("status", "out", cwd=tmp_path).stdout.count("done") == 6
    assert leftovers(tmp_path) == []


@pytest.mark.slurm
@pytest.mark.timeout(900)
@pytest.mark.slow
def test_shards_on_slurm_of_which_one_is_preempted_give_the_store_of_one_process(slurm: Slurm, place: Path) -> None:
    pytest.importorskip("submitit")
    birdnet_fs(*EMBED, "-o", "one", cwd=place)
    command = ["cluster", *EMBED, "-o", "out", "--shards", 3]
    resources = ["--slurm", "time=10,mem=1500,cpus-per-task=4"]
    environment = {**os.environ, **ENVIRONMENT, **slurm.environment}
    program = subprocess.Popen(
        [sys.executable, "-m", "birdnet_fs.cli.main", *map(str, [*command, *resources])],
        cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    folder = place / "out.shards"
    long = shard_of(folder, "long/r00.wav", program)
    slurm.wait("work on the long shard", lambda: (folder / f"{long:05d}" / "store.json").is_file())
    array = json.loads((folder / "array.json").read_text())
    job = f"{array['array']}_{array['shards'].index(long)}"
    assert slurm.states(job) and list(slurm.states(job).values()) == ["RUNNING"]
    slurm.call("sbatch", "-p", "high", "-c8", "--mem=10", "-o", os.devnull, "--wrap=true")
    slurm.wait("the preemption", lambda: any(facts["Restarts"] == "1" for facts in slurm.jobs(job).values()))
    slurm.wait("its second start", lambda: "RUNNING" in slurm.states(job).values())
    out, err = program.communicate(timeout=300)
    assert program.returncode == 0 and "12 ok, 0 partial, 1 quarantined; out\n" in out, err + log(folder)
    assert contents(place / "out") == contents(place / "one")


def log(folder: Path) -> str:
    files = [*folder.glob("*.log"), *(folder / "submitit").glob("*.err"), *(folder / "submitit").glob("*.out")]
    return "\n".join(f"{file.name}: {file.read_text()[-2000:]}" for file in files)


def test_status_of_something_else_is_refused(tmp_path: Path) -> None:
    from birdnet_fs.cluster.status import read_status

    with pytest.raises(UserError, match="An output folder of cluster, analyze"):
        read_status(tmp_path)
    done = birdnet_fs("status", "nowhere", cwd=tmp_path, check=False)
    assert done.returncode == 2 and "nowhere does not exist" in done.stderr
