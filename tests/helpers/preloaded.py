"""Run Python in processes that start with large packages imported: Keras and its backend take 5-12 s of CPU each time.

A server for each backend imports packages of others, nothing of this package, and forks a process per request; the
processes of pytest-xdist share it. A forked process has its own environment, folder, arguments and output.
tests/cli/test_quickstart.py and tests/export/runtimes/test_subprocesses.py do without it.
"""

import atexit
import contextlib
import fcntl
import importlib
import json
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

MODULES = {
    "torch": (
        "keras", "numba", "soundfile", "matplotlib.pyplot", "jinja2",
        "typer", "pydantic.fields", "pydantic.type_adapter",  # typer imports them when it parses arguments
    ),
    "tensorflow": ("tensorflow.lite.python.lite", "keras"),
    "": ("numpy", "soundfile", "soxr", "ai_edge_litert.interpreter"),  # onnxruntime would start a thread
}  # fmt: skip
SURVIVING = ("jemalloc_bg_thd",)  # threads that a library starts again in a forked process
POLL_S = 2.0  # how often a server looks whether its tests are still running
folder: Path | None = None  # of the servers' sockets, set by conftest.py; without it every process is a new one


def run_python(
    arguments: Sequence[object],
    *,
    backend: str = "tensorflow",
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    cpu_limit_s: int = 500,
) -> subprocess.CompletedProcess[str]:
    """Run `python ARGUMENTS` as subprocess.run does, with text output.

    Args:
        arguments: `-m MODULE`, `-c CODE` or a script, and its own arguments.
        backend: Keras backend: "torch" or "tensorflow"; "" for a process without Keras. Default: "tensorflow".
        environment: Variables that are added to the environment. Default: none.
        cwd: Folder. Default: that of this process.
        cpu_limit_s: Limit of CPU time in seconds, since a busy machine may take any time; the process ends with
            -SIGXCPU.

    Returns:
        The finished process.
    """
    given = [str(argument) for argument in arguments]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {}), "KERAS_BACKEND": backend}
    path = _server(folder, backend) if folder else ""
    if not path:
        return subprocess.run(
            [sys.executable, *given], env=environment, cwd=cwd, capture_output=True, encoding="utf-8", check=False
        )
    with contextlib.ExitStack() as stack:
        stdout, stderr = (stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")) for _ in range(2))
        connection = stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(path)
        job = {
            "arguments": given,
            "environment": environment,
            "cwd": str(cwd or Path.cwd()),
            "cpu_limit_s": cpu_limit_s,
        }
        socket.send_fds(connection, [b"\n"], [stdout.fileno(), stderr.fileno()])
        connection.sendall(json.dumps(job).encode() + b"\n")
        status = int(connection.makefile().readline())
        outputs = []
        for file in (stdout, stderr):
            file.seek(0)
            outputs.append(file.read())
    return subprocess.CompletedProcess([sys.executable, *given], status, *outputs)


def _server(folder: Path, backend: str) -> str:
    """Path of the socket of a running server, which the first caller starts; "" where it could not be started."""
    path, failed, lock_file = (folder / f"preloaded_{backend}.{ending}" for ending in ("socket", "failed", "lock"))
    with lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists() and not failed.exists():
            environment = {**os.environ, "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
            environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(Path(__file__).parents[2])}
            tests = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            command = [sys.executable, __file__, str(path), backend, str(tests)]
            server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, start_new_session=True)
            assert server.stdout is not None
            if server.stdout.readline() != b"ready\n":
                failed.touch()
                warnings.warn(f"no server of preloaded processes for {backend}: tests take longer", stacklevel=3)
    return str(path) if path.exists() else ""


def _serve(path: str, backend: str, tests: int) -> None:
    """Fork a process for every connection while the process `tests` runs."""
    for module in MODULES[backend]:
        importlib.import_module(module)
    threads = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    assert len([name for name in threads if name not in SURVIVING]) == 1, f"threads do not survive a fork: {threads}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(POLL_S)
        print("ready", flush=True)
        while Path(f"/proc/{tests}").exists():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            if os.fork() == 0:
                server.close()
                _answer(connection)
            connection.close()
    Path(path).unlink()


def _answer(connection: socket.socket) -> NoReturn:
    """Run the job of a connection in another process and send its exit status."""
    connection.settimeout(None)
    _, outputs, _, _ = socket.recv_fds(connection, 1, 2)
    with connection.makefile() as lines:
        job = json.loads(lines.readline())
    if (pid := os.fork()) == 0:
        connection.close()
        _become(job, outputs)
    ended = os.pidfd_open(pid)
    if ended not in select.select([ended, connection], [], [])[0]:  # the tests were stopped
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(job: dict[str, Any], outputs: Sequence[int]) -> NoReturn:
    """Turn this process into `python ARGUMENTS` and end it."""
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu_limit_s"], resource.getrlimit(resource.RLIMIT_CPU)[1]))
    for fd, target in zip((os.open(os.devnull, os.O_RDONLY), *outputs), (0, 1, 2), strict=True):
        os.dup2(fd, target)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    how, *rest = job["arguments"]
    sys.path[:1] = filter(None, job["environment"].get("PYTHONPATH", "").split(os.pathsep))
    status: object = 0
    try:
        if how == "-m":
            sys.path.insert(0, job["cwd"])
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif how == "-c":
            sys.path.insert(0, "")
            sys.argv = ["-c", *rest[1:]]
            exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.path.insert(0, str(Path(how).parent))
            sys.argv = [how, *rest]
            runpy.run_path(how, run_name="__main__")
    except SystemExit as error:
        status = error.code
        if status is not None and not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(status or 0))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], int(sys.argv[3]))
