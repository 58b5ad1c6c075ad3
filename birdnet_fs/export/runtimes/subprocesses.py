"""Start one of the exporter's own processes: a module of this package or a script, its own backend, the CPU alone."""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

_PACKAGES = Path(__file__).resolve().parents[2]
_QUIET = {
    "PYTHONIOENCODING": "utf-8",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "",  # conversion needs no GPU and must not take the memory of one
}
POISONED_MEMORY = {"MALLOC_PERTURB_": "85"}


def run_module(
    module: str, arguments: Sequence[object], *, backend: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments...` of this environment and wait; interrupting ends the process too."""
    paths = [str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths)}  # a checkout that is not installed works as well
    if backend:
        environment["KERAS_BACKEND"] = backend
    return _run([sys.executable, "-m", module, *map(str, arguments)], environment)


def run_python(
    python: Path, arguments: Sequence[object], *, stale: bool = False, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `PYTHON arguments...` of any environment, as if it were activated, and wait.

    With `stale`, memory that is allocated or freed is filled with rubbish (where the C library is glibc), so that what
    reads it before writing it answers wrongly here and not later.

    Raises:
        OSError: There is no such program.
        subprocess.TimeoutExpired: It did not end in time.
    """
    environment = {"PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", "")]), "PYTHONPATH": ""}
    return _run([str(python), *map(str, arguments)], environment | (POISONED_MEMORY if stale else {}), timeout_s)


class LineProcess:
    """A process that is spoken to line by line.

    Attributes:
        status: Its exit status once `request` gave None.
        words: What it wrote on its error output until then.
    """

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self.status, self.words = 0, ""
        self._process, self._errors = process, errors

    def request(self, line: str = "") -> str | None:
        """Its next line, after saying `line` to it; None when it has ended."""
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
        self.words = self._errors.read()
        return None


@contextlib.contextmanager
def start_line_process(python: Path, arguments: Sequence[object]) -> Iterator[LineProcess]:
    """Start `PYTHON arguments...` to speak with; it ends with the block, whatever it is doing."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:  # a pipe that nobody reads fills
        process = subprocess.Popen(
            [str(python), *map(str, arguments)],
            env={**os.environ, **_QUIET, "PYTHONPATH": ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
        )
        try:
            yield LineProcess(process, errors)
        finally:
            process.kill()
            with contextlib.suppress(OSError):
                process.communicate()


def last_output(done: subprocess.CompletedProcess[str]) -> str:
    """The last line a process said before it failed, for an error message."""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1][:500] if lines else "it said nothing"


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
    )
