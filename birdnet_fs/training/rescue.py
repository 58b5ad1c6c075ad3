"""Save trained weights when their folder cannot be written: again after a pause, then in another place."""

import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from birdnet_fs.core import stopping
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import describe_os_error
from birdnet_fs.core.progress import say
from birdnet_fs.runs.run import CONFIG, Run

PAUSES_S = (5.0, 10.0, 15.0)  # between attempts; 30 s are enough to delete a file
FOLDER = "birdnet_fs_rescued"  # in the home folder and the system's folder of temporary files
SHARED_MEMORY = Path("/dev/shm")  # a file system in memory, on Linux: the last place, lost with the machine


def save_safely(
    folder: Path, save: Callable[[Path], Run], pauses_s: Sequence[float] | None = None, *, elsewhere: bool = True
) -> Run:
    """Write a run; a signal that stops the command waits for the end.

    Args:
        folder: The run folder.
        save: Writes a run into a folder, whole or not at all.
        pauses_s: Seconds before each further attempt. None: PAUSES_S.
        elsewhere: Whether to write the run to another place when `folder` cannot be written. Default: True.

    Returns:
        The run.

    Raises:
        UserError: `folder` cannot be written. The message names the place where the weights are instead; only if that
            failed as well are they lost.
    """
    with stopping.finished_first():
        for pause_s in (*(PAUSES_S if pauses_s is None else pauses_s), None):
            try:
                return save(folder)
            except OSError as error:
                reason = describe_os_error(error)
            if pause_s is None or stopping.received():
                break
            say(f"The trained weights could not be written ({reason}). The next attempt is in {pause_s:g} s.")
            _wait(pause_s)
        if not elsewhere:
            raise UserError(f"The trained weights could not be written to {folder} ({reason}).")
        raise UserError(_elsewhere(folder, save, reason))


def _elsewhere(folder: Path, save: Callable[[Path], Run], reason: str) -> str:
    """Write the run into the first place with room; returns the message of the error."""
    tried = []
    for place in _places(folder):
        tried.append(str(place))
        with contextlib.suppress(OSError):
            save(place)
            kept = "; the earlier run there is unchanged" if (folder / CONFIG).is_file() else ""
            return (
                f"The trained weights could not be written to {folder} ({reason}){kept}. They are a run folder in "
                f"{place}: free disk space and move it to {folder}, or use it from there."
            )
    return (
        f"The trained weights could not be written to {folder} ({reason}), nor to {', '.join(tried)}; free disk space "
        "and train again."
    )


def _places(folder: Path) -> Iterator[Path]:
    name = f"{folder.resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    with contextlib.suppress(RuntimeError):  # no home folder
        yield Path.home() / FOLDER / name
    yield Path(tempfile.gettempdir()) / FOLDER / name
    if SHARED_MEMORY.is_dir():
        yield SHARED_MEMORY / FOLDER / name


def _wait(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stopping.received():
        time.sleep(0.1)
