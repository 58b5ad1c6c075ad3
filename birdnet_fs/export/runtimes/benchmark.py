"""Speed, memory and size of artifacts, each measured in a separate process that holds only NumPy and the runtime.

Several files are timed in turns of half a second, so that other load on the machine affects all of them equally; idle
processes wait for input. Times are wall-clock: the median is typical, the minimum is free of disturbance.
"""

import contextlib
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from birdnet_fs.core.errors import UserError
from birdnet_fs.export.runtimes import subprocesses

SUFFIXES = {".tflite": "ai-edge-litert", ".onnx": "onnxruntime"}
_TURN_S = 0.5
_SCRIPT = Path(__file__).with_name("time_model.py")


@dataclass(frozen=True)
class Speed:
    """Speed and memory of one artifact on this machine.

    Attributes:
        path: The artifact.
        input: "waveform", or "features", where the time does not include the front-end.
        segment_s: Length of a segment in seconds.
        threads: Threads of the runtime.
        batch: Segments per call.
        median_ms: Median time per segment: time of a call divided by `batch`.
        minimum_ms: Minimum time per segment.
        n_runs: Number of calls timed.
        load_s: Time to open the file and allocate memory, without the first call.
        n_bytes: Size of the file and of weights stored beside it.
        peak_bytes: Peak memory of the process: Python, NumPy and the runtime (`base_bytes`), and the file.
        base_bytes: Peak memory before the file was opened. Both are 0 where the system does not report it (Windows).
    """

    path: Path
    input: str
    segment_s: float
    threads: int
    batch: int
    median_ms: float
    minimum_ms: float
    n_runs: int
    load_s: float
    n_bytes: int
    peak_bytes: int
    base_bytes: int

    @property
    def real_time(self) -> float:
        """Seconds of audio processed per second, by the median."""
        return 1e3 * self.segment_s / self.median_ms

    def to_json(self) -> dict[str, Any]:
        """Every number, with its unit in the name."""
        return {**vars(self), "path": str(self.path), "real_time": self.real_time}

    def summary(self) -> str:
        """One or two sentences for the model card."""
        without = " without the front-end" if self.input == "features" else ""
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        at_once = f", {self.batch} at once" if self.batch > 1 else ""
        return (
            f"{self.median_ms:.3g} ms for a segment of {self.segment_s:g} s{without} (median of {self.n_runs} runs on "
            f"{threads}{at_once}; best {self.minimum_ms:.3g} ms): {self.real_time:,.0f} times real time. "
            f"{self.n_bytes / 1e6:.2f} MB on disk{self._memory()}; opened in {1e3 * self.load_s:.0f} ms."
        )

    def _memory(self) -> str:
        if not self.peak_bytes:
            return ""
        most, base = self.peak_bytes / 1e6, self.base_bytes / 1e6
        return f", {most:.0f} MB of peak memory, of which Python, NumPy and the runtime take {base:.0f}"


def measure_speed(path: Path | str, *, threads: int = 1, batch: int = 1, seconds: float = 2.0) -> Speed:
    """Time one artifact.

    Args:
        path: A `.tflite` or `.onnx` file with the `.json` of the exporter beside it.
        threads: Threads of the runtime, 1 or more. Default: 1.
        batch: Segments per call, 1 or more; must match an artifact with a fixed batch. Default: 1.
        seconds: Duration of the measurement, above 0, up to 3600; at least three calls are timed. Default: 2.

    Returns:
        The measurement.
    """
    return measure_in_turns([path], threads=threads, batch=batch, seconds=seconds)[0]


def measure_in_turns(
    paths: Sequence[Path | str], *, threads: int = 1, batch: int = 1, seconds: float = 10.0
) -> list[Speed]:
    """Time several artifacts in turns.

    Args:
        paths: `.tflite` or `.onnx` files with the `.json` of the exporter beside them.
        threads: Threads of the runtime, 1 or more. Default: 1.
        batch: Segments per call, 1 or more; must match artifacts with a fixed batch. Default: 1.
        seconds: Duration per artifact, above 0, up to 3600. Default: 10.

    Returns:
        The measurements in the order of `paths`.

    Raises:
        UserError: A number is out of range, a file or sidecar is missing, an artifact has another fixed batch, or a
            runtime is missing or fails.
    """
    for name, value in (("threads", threads), ("batch_size", batch)):
        if value < 1:
            raise UserError(f"--{name} must be 1 or more. Received: {value}")
    if not 0 < seconds <= 3600:
        raise UserError(f"--seconds must be above 0, up to 3600. Received: {seconds:g}")
    files = [Path(path) for path in paths]
    about = [_about(path) for path in files]
    with contextlib.ExitStack() as stack:
        timers = []
        for path in files:
            process = stack.enter_context(
                subprocesses.start_line_process(Path(sys.executable), ["-I", _SCRIPT, path, threads, batch])
            )
            timers.append(_Timer(path, batch, process))
        opened = [timer.request() for timer in timers]
        times: list[list[float]] = [[] for _ in timers]
        left = seconds
        while left > 0:
            for timer, kept in zip(timers, times, strict=True):
                kept += timer.request(f"{min(_TURN_S, left)}")
            left -= _TURN_S
        memory = [timer.request("end") for timer in timers]
    return [
        Speed(
            path,
            sidecar["input"],
            float(sidecar["segment_s"]),
            threads,
            batch,
            statistics.median(ms) / batch,
            min(ms) / batch,
            len(ms),
            float(start["load_s"]),
            sum(file.stat().st_size for file in (path, path.with_name(path.name + ".data")) if file.is_file()),
            int(peak),
            int(start["without"]),
        )
        for path, sidecar, start, ms, peak in zip(files, about, opened, times, memory, strict=True)
    ]


class _Timer:
    """A process of time_model.py; a failure becomes a UserError."""

    def __init__(self, path: Path, batch: int, process: subprocesses.LineProcess) -> None:
        self._path, self._batch, self._process = path, batch, process

    def request(self, line: str = "") -> Any:
        """The next line of the process, as JSON."""
        answer = self._process.request(line)
        return json.loads(answer) if answer is not None else self._died()

    def _died(self) -> NoReturn:
        last = ([""] + [word.strip() for word in self._process.error_output.splitlines() if word.strip()])[-1]
        if last.startswith("batch "):
            fixed = last.removeprefix("batch ")
            raise UserError(
                f"{self._path} takes {fixed} segment(s) per call: give --batch_size {fixed}. Received: {self._batch}"
            )
        if last.startswith("ModuleNotFoundError"):
            needed = SUFFIXES[self._path.suffix]
            raise UserError(f'Timing {self._path.name} needs {needed}: pip install "birdnet_fs[export]"')
        raise UserError(
            f"{self._path} cannot be run (exit status {self._process.status}: {last[:300] or 'no output'}); copy or "
            "export it again."
        )


def _about(path: Path) -> dict[str, Any]:
    if path.suffix not in SUFFIXES:
        raise UserError(f"An artifact to time must end in {' or '.join(SUFFIXES)}. Received: {path}")
    if not path.is_file():
        raise UserError(f"An artifact to time was expected at {path}; there is no such file.")
    sidecar = path.with_suffix(".json")
    try:
        found = json.loads(sidecar.read_text(encoding="utf-8"))
        if found["input"] in ("waveform", "features") and float(found["segment_s"]) > 0:
            return dict(found)
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise UserError(
        f"{sidecar} must describe the input of {path.name} (input, segment_s); "
        "keep the files of `birdnet-fs export` together."
    )
