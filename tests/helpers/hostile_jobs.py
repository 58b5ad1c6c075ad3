"""Open files of strangers, each in a forked process with limits, and report what happened.

    python hostile_jobs.py < jobs.json > results.json

A job is {"door": name of a function below, "path": file or folder}. The process may take 1 GB of addresses more than it
has and 20 s of CPU; an audit hook records every program that is started, every connection, and every file opened for
writing outside of the working directory and the folder for temporary files.
"""

import json
import os
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np

GB = 1 << 30
STARTED = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "socket.connect", "pty.spawn")
WRITTEN = ("os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "shutil.rmtree")
ROOT = Path(__file__).parents[2]
SOUND = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)


def run(path: Path) -> str:
    """Load a run and build its network."""
    from birdnet_fs.runs.run import load_run

    load_run(path).build_model()
    return "built"


def load(path: Path) -> str:
    """Open a model and score a waveform of a few windows."""
    import birdnet_fs

    model = birdnet_fs.load(path, threads=1)
    return f"scored {len(model.predict(SOUND))}"


def weights(path: Path) -> str:
    """Set the initial weights of a network from a published file."""
    from birdnet_fs import models
    from birdnet_fs.models import pretrained

    model = models.build("resnet/18", input_shape=(64, 64, 1), n_classes=2)
    pretrained.load(model, path, name="resnet/18")
    return "set"


def receive(path: Path) -> str:
    """Open an exported file with the scripts of the receiving side, and score one segment."""
    sys.path.insert(0, str(ROOT / "export"))
    import importlib

    import reading

    try:
        artifact = importlib.import_module("run_onnx" if path.suffix == ".onnx" else "run_tflite").load(path)
        n_samples = round(artifact.sidecar["segment_s"] * artifact.sidecar["sample_rate_hz"])
        return f"scored {len(reading.scores_of(artifact, SOUND[:n_samples]))}"
    except reading.InputError as error:
        from birdnet_fs import UserError

        raise UserError(str(error)) from None


def command(arguments: list[str]) -> str:
    """Run a command line; a refusal is raised as UserError."""
    from birdnet_fs import UserError
    from birdnet_fs.cli import main

    reader, writer = os.pipe()
    sys.stderr, sys.stdout = os.fdopen(writer, "w"), open(os.devnull, "w")  # noqa: SIM115
    sys.argv = ["birdnet-fs", *arguments]
    try:
        main.main()
        status = 0
    except SystemExit as stop:
        status = stop.code
    sys.stderr.flush()
    said = os.read(reader, 100_000).decode("utf-8", "replace").strip()
    if status == 2:
        raise UserError(said.splitlines()[-1].removeprefix("birdnet-fs: "))  # notes are before it
    return f"status {status}: {said}"


def analyze(path: Path) -> str:
    """The command `analyze`."""
    return command(["analyze", str(path), "recordings", "-o", f"tables-{path.name}"])


def evaluate(path: Path) -> str:
    """The command `evaluate`."""
    return command(["evaluate", str(path)])


def export(path: Path) -> str:
    """The command `export`."""
    return command(["export", str(path)])


DOORS = {f.__name__: f for f in (run, load, weights, receive, analyze, evaluate, export)}


def memory(name: str) -> int:
    """A line of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


def watch(seen: list[str]) -> None:
    """Record programs, connections and writes outside of the working directory in `seen`."""
    allowed = (os.getcwd() + os.sep, os.path.realpath(tempfile.gettempdir()) + "/birdnet-fs-", "/dev/null")

    def hook(event: str, arguments: tuple) -> None:
        if event in STARTED:
            seen.append(f"{event} {arguments[:2]!r}"[:200])
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in WRITTEN) and isinstance(arguments[0], (str, bytes, Path)):
            place = os.path.realpath(os.fsdecode(arguments[0]))
            if not place.startswith(allowed):
                seen.append(f"{event} {place}"[:200])

    sys.addaudithook(hook)


def outcome(door: str, path: str) -> dict:
    """Outcome of reading a file, in this process."""
    from birdnet_fs import UserError

    seen: list[str] = []
    start, before = memory("VmSize"), time.process_time()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (start + GB, hard))
    resource.setrlimit(resource.RLIMIT_CPU, (int(before) + 20, int(before) + 20))
    watch(seen)
    try:
        found = {"kind": "ok", "said": DOORS[door](Path(path))}
    except UserError as error:
        found = {"kind": "refused", "said": str(error)}
    except BaseException as error:
        found = {"kind": type(error).__name__, "said": "".join(traceback.format_exception(error))[-3000:]}
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    grown = max(0, memory("VmPeak") - start)
    return {**found, "cpu_s": time.process_time() - before, "grown": grown, "seen": seen}


def job(door: str, path: str) -> dict:
    """Outcome of reading a file, in a forked process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as answer:
            json.dump(outcome(door, path), answer)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    return json.loads(said) if said else {"kind": f"died, status {status}", "said": "", "seen": []}


if __name__ == "__main__":
    jobs = json.load(sys.stdin)
    results, sys.stdout = sys.stdout, sys.stderr  # libraries print
    warm = jobs.pop(0)  # a good run: everything is imported and compiled before the limits are set
    import onnxruntime  # noqa: F401

    from birdnet_fs.cli import main  # noqa: F401
    from birdnet_fs.models import pretrained  # noqa: F401
    from birdnet_fs.reports import held_out  # noqa: F401

    print(load(Path(warm["path"])))
    json.dump([job(**one) for one in jobs], results)
