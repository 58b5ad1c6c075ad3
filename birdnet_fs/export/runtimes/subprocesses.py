"""Start processes of the exporter: a module of this package or a script, with its own backend, on the CPU only.

On Linux they end when the exporter does, however that ends.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from birdnet_fs.core.processes import end_with_parent

_PACKAGES = Path(__file__).resolve().parents[3]
_QUIET = {
    "PYTHONIOENCODING": "utf-8",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",  # conversion needs no GPU and must not take the memory of one
}
_BEFORE_EXEC = end_with_parent if os.name == "posix" else None
POISONED_MEMORY = {"MALLOC_PERTURB_": "85"}


def run_module(
    module: str, arguments: Sequence[object], *, backend: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments...` in this environment and wait; an interrupt ends the process as well.

    Args:
        module: Name of the module.
        arguments: Command-line arguments.
        backend: Keras backend of the process. Default: that of the environment.

    Returns:
        The finished process with its output as text.
    """
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths)}  # a checkout that is not installed works as well
    if backend:
        environment["KERAS_BACKEND"] = backend
    return _run([sys.executable, "-m", module, *map(str, arguments)], environment)


def run_python(
    python: Path, arguments: Sequence[object], *, stale: bool = False, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `PYTHON arguments...` of any environment, as if it were activated, and wait.

    OSError is raised for a missing program, subprocess.TimeoutExpired after `timeout_s`.

    Args:
        python: Python executable of the environment.
        arguments: Command-line arguments.
        stale: Fill memory with a pattern when it is allocated or freed (with glibc), so that a read of uninitialized
            memory fails here and not on a device. Default: false.
        timeout_s: Time limit in seconds. Default: none.

    Returns:
        The finished process with its output as text.
    """
    environment = {"PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]), "PYTHONPATH": ""}
    return _run([str(python), *map(str, arguments)], environment | (POISONED_MEMORY if stale else {}), timeout_s)


class LineProcess:
    """A process that is controlled line by line.

    Args:
        process: The process, started with pipes for input and output.
        errors: The file that its standard error is written to.

    Attributes:
        status: Exit status, set once `request` returned None.
        error_output: Standard error until then.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.status, self.error_output = 0, ""
        self._process, self._errors = process, errors

    def request(self, line: str = "") -> str | None:
        """Send a line to the process and return its next line.

        Args:
            line: Line to send. Default: none.

        Returns:
            The next line of its output, or None when it has ended.

        Raises:
            ValueError: The process was started without pipes.
        """
        given, answers = self._process.stdin, self._process.stdout
        if given is None or answers is None:
            raise ValueError("the process must have been started with pipes")
        with contextlib.suppress(BrokenPipeError):
            if line:
                given.write(line + "\n")
                given.flush()
        if answer := answers.readline():
            return answer
        self.status = self._process.wait()
        self._errors.seek(0)
        self.error_output = self._errors.read()
        return None


@contextlib.contextmanager
def start_line_process(python: Path, arguments: Sequence[object]) -> Iterator[LineProcess]:
    """Start `PYTHON arguments...` with pipes as a `LineProcess`; it is killed at the end of the block."""
    with tempfile.TemporaryFile(
        "w+", encoding="utf-8", errors="replace"
    ) as errors:  # an unread pipe would fill up and block
        process = subprocess.Popen(
            [str(python), *map(str, arguments)],
            env={**os.environ, **_QUIET, "PYTHONPATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            preexec_fn=_BEFORE_EXEC,
        )
        try:
            yield LineProcess(process, errors)
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()


def last_output(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a process' standard error, for an error message."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "no output"


def _run(
    command: Sequence[str], environment: dict[str, str], timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={**os.environ, **_QUIET, **environment},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=timeout_s,
        preexec_fn=_BEFORE_EXEC,
    )
