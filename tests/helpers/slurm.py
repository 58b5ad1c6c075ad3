"""A real SLURM on this machine: munged, slurmctld and slurmd, as root, without systemd, with all files in a folder.

One node with two partitions: jobs of `high` preempt those of `low`, which are requeued. Memory is limited by cgroup v1
where the machine has it. There is no slurmdbd, hence no `sacct`: finished jobs are asked for with `scontrol`.
"""

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
N_CPUS, MEMORY_MB = 8, 16_000  # of the node, whatever the machine has
CONFIG = """\
ClusterName=tests
SlurmUser=root
SlurmdUser=root
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
MinJobAge=3600
FirstJobId={first_job}
KillWait=5
OverTimeLimit=0
SchedulerParameters=sched_interval=2,batch_sched_delay=1
{processes}
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}
PartitionName=low Nodes={host} Default=YES PriorityTier=1 MaxTime=INFINITE
PartitionName=high Nodes={host} PriorityTier=10 MaxTime=INFINITE
"""
LIMITED = "ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup"
UNLIMITED = "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none"
CGROUP = "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=yes\nConstrainRAMSpace=yes\n"


def why_not() -> str:
    """Reason why no SLURM can be started here; "" when one can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} not found (Debian: slurm-wlm, munge)"
    return "" if os.geteuid() == 0 else "only root can start the daemons of SLURM"


@dataclass(frozen=True)
class Slurm:
    """A running SLURM.

    Attributes:
        folder: Folder of the configuration and the logs.
        limits_memory: Whether a job is killed when it takes more memory than it asked for.
    """

    folder: Path
    limits_memory: bool

    @property
    def environment(self) -> dict[str, str]:
        """Variables by which programs find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(
        self, *command: object, check: bool = True, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a program of SLURM; returns its output."""
        environment = {**os.environ, **self.environment, **(env or {})}
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=environment, cwd=cwd)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}\n{self.logs()}"
        return done.stdout.strip()

    def jobs(self, number: int | str) -> dict[str, dict[str, str]]:
        """Facts of a job, or of all tasks of an array, by the number of the task ("" without one)."""
        text = self.call("scontrol", "--oneliner", "show", "job", number, check=False)
        found = {}
        for line in text.splitlines():
            facts = dict(re.findall(r"(\w+)=(\S*)", line))
            if "JobId" in facts:
                found[facts.get("ArrayTaskId", "")] = facts
        return found

    def states(self, number: int | str) -> dict[str, str]:
        """State of every task of a job."""
        return {task: facts["JobState"] for task, facts in self.jobs(number).items()}

    def wait(self, what: str, until: Callable[[], bool], within_s: float = 120.0) -> None:
        """Wait until something is true, for no longer than a guard against waiting for ever."""
        end = time.monotonic() + within_s
        while not until():
            assert time.monotonic() < end, f"{what} did not happen in {within_s:g} s\n{self.logs()}"
            time.sleep(0.1)

    def logs(self) -> str:
        """The ends of the logs of the daemons."""
        logs = (self.folder / name for name in ("slurmctld.log", "slurmd.log"))
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs if log.is_file())


@contextlib.contextmanager
def started_slurm(folder: Path) -> Iterator[Slurm]:
    """Start the daemons with all their files in a folder, and end them and every job after the block."""
    host = socket.gethostname().split(".")[0]
    limited = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").is_file()
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    ports = _free_ports(2)
    facts = {"host": host, "ports": ports, "folder": folder, "cpus": N_CPUS, "memory": MEMORY_MB}
    facts["first_job"] = 1000 * ports[0]  # the control groups of two instances must not have the same names
    (folder / "slurm.conf").write_text(CONFIG.format(processes=LIMITED if limited else UNLIMITED, **facts))
    if limited:
        (folder / "cgroup.conf").write_text(CGROUP)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    slurm = Slurm(folder, limited)
    try:
        kinds = ("key", "socket", "pid", "log", "seed")
        files = [f"--{kind}{'' if kind == 'socket' else '-file'}={folder}/munge.{kind}" for kind in kinds]
        slurm.call("munged", "--force", *files)
        slurm.call("slurmctld")
        slurm.call("slurmd", "-N", host)
        slurm.wait("the start of the node", lambda: "idle" in slurm.call("sinfo", "-h", "-o", "%t", check=False), 60)
        yield slurm
    finally:
        slurm.call("scancel", "--signal=KILL", "--full", "--user=root", check=False)
        slurm.call("scancel", "--user=root", check=False)
        _end(folder / "slurmd.pid", folder / "slurmctld.pid", folder / "munge.pid")


def _free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _end(*files: Path) -> None:
    for file in files:
        with contextlib.suppress(OSError, ValueError):
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                os.kill(pid, 0)
                time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
