"""Shards as processes of this machine, or as an array of jobs of SLURM through submitit.

A shard is the same command in either case, in a process of its own: a shard that crashes, is killed or takes too much
memory stops no other one, and a signal stops it as it stops every command. A job of SLURM that gets the signal before
its time limit waits until its command has stopped, and is requeued; so is one that is preempted, by SLURM itself.
"""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs.cluster.plan import log_file
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped

ARRAY = "array.json"  # number of the array of jobs and the shards of its tasks
SUBMITTED = "submitit"  # folder of submitit, with its logs
DEFAULTS = {"time": "720", "mem": "16G", "cpus_per_task": "8"}  # of sbatch
POLL_S = 0.2
SLURM_POLL_S = 5.0
_MANY = 1_000_000  # requeues; every one finds less to do


class ShardJob:
    """A shard as a job of submitit, which requeues it after `checkpoint`.

    Args:
        command: Program and arguments.
        log: File to which its output is appended.
    """

    def __init__(self, command: Sequence[str], log: str) -> None:
        self.command, self.log = list(command), log
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"command": self.command, "log": self.log, "_thread": None, "_process": None}

    def __call__(self) -> None:
        """Run the command; RuntimeError when it fails."""
        with open(self.log, "ab") as log:
            process = self._process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)
        # a handler of a signal interrupts this thread anywhere, and must not wait for a lock that it holds
        thread = self._thread = threading.Thread(target=process.wait, daemon=True)
        thread.start()
        while thread.is_alive():
            time.sleep(POLL_S)
        if process.returncode:
            raise RuntimeError(f"{self.command} ended with status {process.returncode}; see {self.log}")

    def checkpoint(self) -> Any:
        """Stop the command and wait until it has saved what it has; returns what submitit runs when requeued."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._thread is not None:
            with contextlib.suppress(OSError):
                os.kill(self._process.pid, signal.SIGTERM)
            while self._thread.is_alive():
                time.sleep(POLL_S)
        return DelayedSubmission(ShardJob(self.command, self.log))


def run_here(commands: Mapping[int, Sequence[str]], folder: Path, n_processes: int) -> Iterator[int]:
    """Run shards in processes of this machine, so many at a time; they end with this process.

    Args:
        commands: Program and arguments by shard.
        folder: Folder of the shards, for their logs.
        n_processes: Number of processes, 1 or more.

    Yields:
        The number of each shard whose process has ended, however it ended.
    """
    waiting = list(commands)
    running: dict[int, subprocess.Popen[bytes]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < n_processes:
                number = waiting.pop(0)
                with open(log_file(folder, number), "ab") as log:
                    running[number] = subprocess.Popen(commands[number], stdout=log, stderr=subprocess.STDOUT)
            ended = [number for number, process in running.items() if process.poll() is not None]
            for number in ended:
                del running[number]
                yield number
            if not ended:
                time.sleep(POLL_S)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()


def check_slurm() -> None:
    """Refuse a machine without SLURM or submitit.

    Raises:
        UserError: One of them is missing; it names the choices.
    """
    if shutil.which("sbatch") is None:
        raise UserError(
            "No SLURM (sbatch) was found on this machine. Give --local N to work here in N processes, give the command "
            "on a login node of the cluster, or submit slurm_scripts."
        )
    if importlib.util.find_spec("submitit") is None:
        raise UserError(
            "Jobs of SLURM need submitit: pip install 'birdnet_fs[slurm]'. Or give --local N to work in N processes."
        )


def parse_resources(text: str) -> dict[str, str]:
    """Options of sbatch.

    Args:
        text: NAME=VALUE separated by commas, as "time=720,mem=16G,partition=long".

    Returns:
        Values by name with underscores.

    Raises:
        UserError: A part is not NAME=VALUE.

    >>> parse_resources("mem=8G,cpus-per-task=4")
    {'mem': '8G', 'cpus_per_task': '4'}
    """
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not (equals and name and value):
            raise UserError(f"--slurm must be options of sbatch as NAME=VALUE,NAME=VALUE. Received: {part!r}")
        found[name.strip().lstrip("-").replace("-", "_")] = value.strip()
    return found


def submit(commands: Mapping[int, Sequence[str]], folder: Path, resources: Mapping[str, str]) -> str:
    """Submit shards as an array of jobs.

    Args:
        commands: Program and arguments by shard.
        folder: Folder of the shards.
        resources: Options of sbatch by name with underscores, beside DEFAULTS.

    Returns:
        The number of the array.

    Raises:
        UserError: SLURM refuses the jobs.
    """
    import submitit
    from submitit.core.utils import FailedJobError

    executor = submitit.SlurmExecutor(folder=folder / SUBMITTED, max_num_timeout=_MANY)
    wanted = {**DEFAULTS, **resources}
    own = {name: wanted.pop(name) for name in list(wanted) if name in executor._valid_parameters() and name != "time"}
    cpus = {"cpus_per_task": int(own.pop("cpus_per_task"))} if own.get("cpus_per_task", "").isdecimal() else {}
    more = {"requeue": True, "time": wanted.pop("time"), **{k.replace("_", "-"): v for k, v in wanted.items()}}
    jobs = [ShardJob(command, os.fspath(log_file(folder, number))) for number, command in commands.items()]
    try:
        executor.update_parameters(job_name="birdnet-fs-shard", **own, **cpus, additional_parameters=more)
        with executor.batch():
            submitted = [executor.submit(job) for job in jobs]
    except (FailedJobError, ValueError, subprocess.CalledProcessError) as error:
        lines = " ".join(str(error).split())
        raise UserError(f"SLURM did not take the jobs: {escaped(lines[-500:])}") from None
    array = submitted[0].job_id.partition("_")[0]
    write_json(folder / ARRAY, {"array": array, "shards": list(commands)})
    return str(array)


def queued(folder: Path) -> dict[int, str]:
    """Shards that wait or run in SLURM.

    Args:
        folder: Folder of the shards.

    Returns:
        State, as "PENDING" or "RUNNING", by shard; {} where nothing was submitted, or there is no SLURM here.
    """
    if not (folder / ARRAY).is_file() or shutil.which("squeue") is None:
        return {}
    about = read_json(folder / ARRAY, "delete it")
    found = {}
    done = subprocess.run(
        ["squeue", "--noheader", "--array", f"--jobs={about['array']}", "--format=%i %T"],
        capture_output=True, text=True,
    )  # fmt: skip
    for line in done.stdout.splitlines():  # 12_3 RUNNING; an array of one job has no number of a task
        job, _, state = line.partition(" ")
        task = job.partition("_")[2] or "0"
        if task.isdecimal() and int(task) < len(about["shards"]):
            found[int(about["shards"][int(task)])] = state
    return found
