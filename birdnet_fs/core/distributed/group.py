"""The group of processes that a command is one of, as `torchrun` starts them; by default the only one.

The main process (rank 0) writes files, prints and holds locks; the others compute their part. Everything that decides
what is computed next is either computed equally by all, or decided by the main process and sent to the others.

A process that ends closes its connections, which ends the exchange of the others with a `ProcessLostError`.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from birdnet_fs.core import stopping
from birdnet_fs.core.errors import UserError

# a process that has ended is found by its closed connection; this only bounds the wait for one that is busy, as the
# main process while it writes a checkpoint or evaluates a run
TIMEOUT = timedelta(hours=6)
_LAST_WORK = timedelta(seconds=25)  # torchrun kills all processes 30 s after the first has failed or it was stopped
_CONNECT = timedelta(minutes=15)  # for all processes to start, on a cluster that begins them one by one


class ProcessLostError(UserError):
    """Another process of the group has ended before its work was done."""


@dataclass
class _Group:
    rank: int = 0
    size: int = 1
    local_rank: int = 0
    store: Any = None


_group = _Group()


def join() -> None:
    """Take the place in the group that `torchrun` gives by the environment; without it nothing changes.

    Raises:
        UserError: RANK, WORLD_SIZE or LOCAL_RANK is no whole number.
    """
    if "MASTER_ADDR" not in os.environ or "RANK" not in os.environ:
        return
    names = {"rank": "RANK", "size": "WORLD_SIZE", "local_rank": "LOCAL_RANK"}
    for name, variable in names.items():
        text = os.environ.get(variable, "0")
        if not text.isdecimal():
            raise UserError(f"The environment variable {variable} must be a whole number, as torchrun sets it: {text}")
        setattr(_group, name, int(text))


def rank() -> int:
    """Number of this process, from 0; 0 is the main process."""
    return _group.rank


def size() -> int:
    """Number of processes, 1 or more."""
    return _group.size


def local_rank() -> int:
    """Number of this process among those of its machine, from 0."""
    return _group.local_rank


def is_main() -> bool:
    """Whether this is the main process, which writes and prints."""
    return _group.rank == 0


def label() -> str:
    """Words that name this process in front of a message; "" for the main process."""
    return f"process {rank()} of {size()}: " if rank() else ""


def connect() -> None:
    """Connect the processes, once: CPU tensors by gloo, those of GPUs by NCCL.

    Raises:
        ProcessLostError: The processes do not find each other.
    """
    if size() == 1 or _group.store is not None:
        return
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    try:
        _group.store = _store(_CONNECT)
        prefixed = dist.PrefixStore(_key("group"), _group.store)
        dist.init_process_group(backend, store=prefixed, rank=rank(), world_size=size(), timeout=TIMEOUT)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ProcessLostError(
            f"The {size()} processes could not be connected at {os.environ['MASTER_ADDR']} ({reason})."
        ) from None


def leave() -> None:
    """Close the connections of a command that has done its work."""
    if _group.store is None:
        return
    import torch.distributed as dist

    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()
    _group.store = None


def first_to_fail() -> bool:
    """Whether no other process has asked this before: only the first one that fails prints why.

    Returns:
        True as well where the others cannot be asked.
    """
    if size() == 1:
        return True
    try:
        store = _group.store or _store(timedelta(seconds=5))
        return int(store.add(_key("failed"), 1)) == 1
    except (RuntimeError, ValueError):
        return True


def await_main() -> None:
    """Wait for `end_all` of the main process, at most 25 s: it saves what all have computed before they stop."""
    if _group.store is not None:
        with contextlib.suppress(RuntimeError):
            _group.store.wait([_key("ended")], _LAST_WORK)


def end_all() -> None:
    """Let the other processes end, which wait in `await_main`."""
    if _group.store is not None and is_main():
        with contextlib.suppress(RuntimeError):
            _group.store.set(_key("ended"), "")


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Let signals wait during a block in which several processes agree where to stop (`exchange.roll_call`).

    In a single process the block changes nothing.

    Yields:
        Nothing.
    """
    with stopping.finished_first() if size() > 1 else contextlib.nullcontext():
        yield


def _key(name: str) -> str:
    return f"birdnet_fs/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{name}"


def _store(timeout: timedelta) -> Any:
    """The key-value store of the group: that of `torchrun`, else one that the main process serves."""
    import torch.distributed as dist

    of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return dist.TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ.get("MASTER_PORT", "29500")),
        size(),
        is_master=is_main() and not of_torchrun,
        timeout=timeout,
        wait_for_workers=False,
    )
