"""Exchange of decisions, rows of arrays and the place of the next step between the processes of a group.

Everything here returns at once in a single process. Objects travel as JSON, not pickled.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from birdnet_fs.core import stopping
from birdnet_fs.core.distributed import group
from birdnet_fs.core.errors import UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


@contextlib.contextmanager
def exchanging() -> Iterator[None]:
    """Raise `ProcessLostError` when an exchange in the block fails.

    Yields:
        Nothing.

    Raises:
        ProcessLostError: Another process has ended, or the network between them has failed.
    """
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = reason.rpartition("] ")[2] if reason.startswith("[/") else reason  # without the source file of gloo
        raise group.ProcessLostError(
            f"Another of the {group.size()} processes has ended or cannot be reached, often for lack of memory "
            f"({reason.partition('. ')[0].rstrip('.')[:200]}); start the same command again."
        ) from None


def all_gather(tensor: "torch.Tensor") -> "torch.Tensor":
    """Gather tensors of the same shape from all processes of a connected group.

    Args:
        tensor: Tensor [...] of the same shape in all processes.

    Returns:
        [n_processes, ...], the same in all processes.
    """
    import torch
    import torch.distributed as dist

    parts = [torch.empty_like(tensor) for _ in range(group.size())]
    with exchanging():
        dist.all_gather(parts, tensor)
    return torch.stack(parts)


def part_of(n_rows: int) -> tuple[int, int]:
    """First row and end of the part of this process when rows are divided among all.

    Args:
        n_rows: Number of rows, 0 or more; parts differ by one row at most and may be empty.

    Returns:
        First row and the row after the last.
    """
    return n_rows * group.rank() // group.size(), n_rows * (group.rank() + 1) // group.size()


def from_main(function: Callable[[], T]) -> T:
    """Call a function in the main process only, and return its result in all.

    Args:
        function: Takes nothing and returns what JSON can hold.

    Returns:
        Its result.

    Raises:
        UserError: The function has raised one; it is raised in all processes.
    """
    if group.size() == 1:
        return function()
    group.connect()
    if not group.is_main():
        found = json.loads(_broadcast(b""))
        if "error" in found:
            raise UserError(found["error"])
        return found["value"]
    try:
        value = function()
    except UserError as error:
        _broadcast(json.dumps({"error": str(error)}).encode())
        raise
    _broadcast(json.dumps({"value": value}).encode())
    return value


def check_equal(values: Mapping[str, Any]) -> None:
    """Check that all processes have the same values.

    Args:
        values: Short values by a name for the message; they are compared as JSON.

    Raises:
        UserError: A process has another value.
    """
    if group.size() == 1:
        return
    group.connect()
    found = [json.loads(text) for text in _all_gather_bytes(json.dumps(dict(values)).encode())]
    for name in values:
        different = [i for i, other in enumerate(found) if other[name] != found[0][name]]
        if different:
            raise UserError(
                f"Process {different[0]} has another {name} than process 0 ({found[different[0]][name]}, not "
                f"{found[0][name]}); all processes need the same files, settings and run folder, as on a file system "
                "that they share."
            )


def gather_rows(rows: np.ndarray) -> np.ndarray:
    """Concatenate the rows of all processes in the order of their ranks.

    Args:
        rows: [n_rows, ...], of the same dtype and further axes in all processes; n_rows may differ and be 0.

    Returns:
        [n_rows_of_all, ...], the same in all processes.
    """
    if group.size() == 1:
        return rows
    group.connect()
    parts = _all_gather_bytes(np.ascontiguousarray(rows).tobytes())
    return np.concatenate([np.frombuffer(part, rows.dtype).reshape(-1, *rows.shape[1:]) for part in parts])


def roll_call(step: int, n_rows: int, *, may_stop: bool) -> list[int]:
    """Agree on the next step, and whether a signal stops the training before it.

    Args:
        step: Number of the step, the same in all processes.
        n_rows: Number of rows of this process in the batch.
        may_stop: Whether the training may stop here; a signal waits else.

    Returns:
        Number of rows of every process.

    Raises:
        Stopped: A process has received a signal.
        ProcessLostError: A process has ended, or is at another step.
    """
    if group.size() == 1:
        return [n_rows]
    import torch

    with exchanging():
        found = all_gather(torch.tensor([step, n_rows, stopping.received() if may_stop else 0]))
        if bool((found[:, 0] != step).any()):
            raise RuntimeError(f"the processes are at the steps {found[:, 0].tolist()}")
    signals = [number for number in found[:, 2].tolist() if number]
    if signals:
        stopping.stop(signals[0])
    return [int(n) for n in found[:, 1].tolist()]


def _broadcast(content: bytes) -> bytes:
    import torch
    import torch.distributed as dist

    with exchanging():
        length = torch.tensor([len(content)])
        dist.broadcast(length, 0)
        data = torch.zeros(int(length), dtype=torch.uint8)
        if group.is_main():
            data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        dist.broadcast(data, 0)
    return bytes(data.numpy())


def _all_gather_bytes(content: bytes) -> Sequence[bytes]:
    import torch

    with exchanging():
        lengths = all_gather(torch.tensor(len(content)))
        own = torch.zeros(max(1, int(lengths.max())), dtype=torch.uint8)
        if content:
            own[: len(content)] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        rows = all_gather(own).numpy()
    return [bytes(row[:n]) for row, n in zip(rows, lengths.tolist(), strict=True)]
