"""Write a submission to BirdCLEF with exported networks: NumPy, soundfile, soxr and one runtime, no network connection.

    python kaggle_submission.py MODEL... DATA -o submission.csv [--time_budget 85min] [--recording_s 60] [--hop 2.5]

DATA is the folder of the competition: sample_submission.csv, test_soundscapes/ and, for models with other class names
than primary_label, taxonomy.csv. With --competition birdclef2022 it has test.csv, and the submission is row_id and
target. A row is the 5 s that end at its stamp; its scores are the mean over the windows that share time with it,
weighted by that time, and the mean over the models. Recordings are scored in one thread per core. Rows and columns
follow the rules of `birdnet-fs submission`: every row is there, rows without scores (a recording that is missing,
broken, short, or out of time) have the mean of each class over the scored rows (2022: False), and the file is complete
from its first writing on. This file can be copied anywhere together with reading.py, kaggle_rows.py, run_tflite.py and
run_onnx.py.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import local
from typing import Any, NamedTuple

import numpy as np
from kaggle_rows import GRID_S, Rows, find_rows, long_rows, match_classes, read_csv
from reading import (
    Artifact,
    InputError,
    calibrated,
    cut_windows,
    guarded,
    outputs_of,
    pad_to,
    printable,
    probabilities,
    read_audio,
)

WRITE_EVERY_S = 60.0
COMPETITIONS = ("birdclef2025", "birdclef2022")
FALLBACKS = ("none", "hop", "models")
EXTENSIONS = (".ogg", ".wav", ".flac", ".mp3")


class Done(NamedTuple):
    """Numbers and problems of a written submission."""

    n_rows: int
    n_scored: int
    problems: dict[str, str]  # recording -> why it has no scores
    seconds: float


def load(model: Path) -> Artifact:
    """Open a .tflite or .onnx file with its sidecars."""
    if model.suffix.lower() == ".onnx":
        from run_onnx import load as open_model
    else:
        from run_tflite import load as open_model
    return open_model(model)


def score_recording(artifact: Artifact, path: Path, hop_s: float) -> np.ndarray:
    """Probabilities of the rows of a recording.

    Args:
        artifact: The model.
        path: The recording.
        hop_s: Seconds from one window to the next; 0 = the longest hop of which a row is a multiple.

    Returns:
        float32 [n_rows, n_classes], in the order of the model.

    Raises:
        InputError: The recording cannot be read or scored.
    """
    rate, segment_s = artifact.sidecar["sample_rate_hz"], artifact.sidecar["segment_s"]
    recording = read_audio(path, rate)
    n_samples = round(segment_s * rate)
    hop = round((hop_s or GRID_S / np.ceil(round(GRID_S / segment_s, 6))) * rate)
    windows = cut_windows(len(recording.waveform), n_samples, hop, rate)
    segments = [pad_to(recording.waveform[start : start + n_real], n_samples) for start, n_real in windows]
    scores = np.stack([outputs_of(artifact, segment)[0] for segment in segments])
    if "calibration" in artifact.sidecar:
        scores = calibrated(scores, artifact.sidecar)
    elif artifact.sidecar["output"] == "logits":
        scores = probabilities(scores, artifact.sidecar["activation"])
    spans = np.array([(start, min(start + n_real, recording.duration_s * rate)) for start, n_real in windows]) / rate
    n_total = max(1, round(recording.duration_s * rate))
    starts = np.array([start for start, _ in cut_windows(n_total, GRID_S * rate, GRID_S * rate, rate)]) / rate
    shared = np.minimum(spans[:, 1], starts[:, None] + GRID_S) - np.maximum(spans[:, 0], starts[:, None])
    weights = np.maximum(shared, 0)
    empty = weights.sum(axis=1) == 0
    nearest = np.abs(spans.mean(axis=1) - (starts[:, None] + GRID_S / 2)).argmin(axis=1)
    weights[empty, nearest[empty]] = 1
    return (weights / weights.sum(axis=1, keepdims=True) @ scores).astype(np.float32)


class Submission:
    """Scores by row, and the file."""

    def __init__(
        self, output: Path, id_column: str, columns: Sequence[str], rows: Rows, threshold: float = 0.5
    ) -> None:
        self.output, self.head, self.rows, self.threshold = output, [id_column, *columns], rows, threshold
        self.scores: dict[tuple[str, int], np.ndarray] = {}

    def write(self) -> None:
        """Write all rows to a temporary file, which then replaces the output."""
        part = self.output.with_name(f".{self.output.name}.part")
        with open(part, "w", encoding="utf-8", newline="") as file:
            (self._write_long if self.rows.birds else self._write_wide)(csv.writer(file, lineterminator="\n"))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, self.output)

    def _write_long(self, writer: Any) -> None:
        writer.writerow([self.head[0], "target"])
        column = {name: number for number, name in enumerate(self.head[1:])}
        for name, window, bird in zip(*self.rows, strict=True):
            found = self.scores.get(window)
            writer.writerow([name, found is not None and bool(found[column[bird]] >= self.threshold)])

    def _write_wide(self, writer: Any) -> None:
        n_columns = len(self.head) - 1
        asked = [self.scores[window] for window in dict.fromkeys(self.rows.windows) if window in self.scores]
        mean = np.mean(asked, axis=0, dtype=np.float64) if asked else np.zeros(n_columns)
        writer.writerow(self.head)
        filled = [f"{value:.9g}" for value in mean.astype(np.float32).tolist()]
        for name, window in zip(self.rows.names, self.rows.windows, strict=True):
            found = self.scores.get(window)
            writer.writerow([name, *(filled if found is None else [f"{value:.9g}" for value in found.tolist()])])


@dataclass
class Plan:
    """Settings of the recordings that follow, which a fallback makes faster.

    Attributes:
        hop_s: Seconds from one window to the next; 0 = a row or less.
        n_models: Number of models that score, the first ones.
        longest_s: Longest hop in seconds.
    """

    hop_s: float
    n_models: int
    longest_s: float

    def make_faster(self, fallback: str, factor: float) -> str:
        """Change the plan.

        Args:
            fallback: "hop" (twice, four times, ... as long, at most one window), "models" (fewer of them) or "none".
            factor: Ratio of the time that the rest takes to the time left, above 1.

        Returns:
            The change in words; "" where nothing can be changed.
        """
        if fallback == "hop":
            hop_s = self.hop_s
            while 0 < hop_s * 2 <= self.longest_s and hop_s < self.hop_s * factor:
                hop_s *= 2
            if hop_s > self.hop_s:
                self.hop_s, before = hop_s, self.hop_s
                return f"the hop is now {hop_s:g} s instead of {before:g} s"
        if fallback == "models" and self.n_models > 1:
            n, self.n_models = self.n_models, max(1, min(self.n_models - 1, int(self.n_models / factor)))
            return f"the first {self.n_models} of {n} models score the rest"
        return ""


def write_submission(
    models: Sequence[Path],
    data: Path,
    output: Path,
    *,
    audio: Path | None = None,
    taxonomy: Path | None = None,
    recording_s: float = 60,
    hop_s: float = 0,
    time_budget_s: float = float("inf"),
    n_threads: int = 0,
    competition: str = COMPETITIONS[0],
    threshold: float = 0.5,
    fallback: str = "none",
    say: Callable[[str], object] = print,
) -> Done:
    """Score the recordings of a competition and write the submission.

    Args:
        models: Exported networks, .tflite or .onnx; their probabilities are averaged.
        data: Folder of the competition.
        output: CSV file to write.
        audio: Folder of the recordings. Default: test_soundscapes of `data`.
        taxonomy: Table that names the labels; it may be missing. Default: taxonomy.csv of `data`.
        recording_s: Length of the recordings of the competition in seconds. Default: 60.
        hop_s: Seconds from one window to the next. Default: 0, a row or less.
        time_budget_s: Seconds after which no further recording is begun. Default: no limit.
        n_threads: Recordings at once. Default: 0, one per core.
        competition: "birdclef2025" (sample_submission.csv, one column per class; 2023 and 2024 as well) or
            "birdclef2022" (test.csv, True or False). Default: "birdclef2025".
        threshold: Lowest probability of a True in 2022, 0..1. Default: 0.5.
        fallback: One of FALLBACKS, which makes the rest faster when it would not end in time. Default: "none".
        say: Shows a line. Default: print.

    Returns:
        What was written.

    Raises:
        InputError: A table or model cannot be used. A recording raises no error.
    """
    start = time.monotonic()
    is_long = competition == "birdclef2022"
    table = data / ("test.csv" if is_long else "sample_submission.csv")
    head, *_ = sample = read_csv(table)
    recordings: dict[str, list[Path]] = {}
    for folder, _, names in os.walk(audio or data / "test_soundscapes"):
        for name in sorted(names):
            if name.lower().endswith(EXTENSIONS):
                recordings.setdefault(Path(name).stem, []).append(Path(folder, name))
    if is_long:
        rows, classes = long_rows(sample, table)
        head = ["row_id", *classes]
    else:
        rows, sentence = find_rows(sample, recordings, recording_s)
        say(sentence)
    submission = Submission(output, head[0], head[1:], rows, threshold)
    submission.write()
    opened = [load(model) for model in models]
    matches = [match_classes(head[1:], each.classes, taxonomy or data / "taxonomy.csv") for each in opened]
    for model, match in zip(models, matches, strict=True):
        say(f"{len(match)} of {len(head) - 1} classes of the competition are of {model.name}; the others get 0")
    plan = Plan(hop_s, len(models), min(each.sidecar["segment_s"] for each in opened))
    own = local()  # a runtime is not used by two threads at once

    def score(name: str) -> np.ndarray:
        if time.monotonic() - start > time_budget_s:
            raise InputError("the time budget had ended")
        if len(recordings[name]) > 1:
            raise InputError(f"{len(recordings[name])} recordings are called {name}")
        if not hasattr(own, "models"):
            own.models = [load(model) for model in models]
        parts = []
        for artifact, match in list(zip(own.models, matches, strict=True))[: plan.n_models]:
            found = score_recording(artifact, recordings[name][0], plan.hop_s)
            part = np.zeros((len(found), len(head) - 1), np.float32)
            for place, column in enumerate(head[1:]):
                if column in match:
                    part[:, place] = found[:, match[column]]
            parts.append(part)
        return np.mean(parts, axis=0)

    names = list(dict.fromkeys(name for name, _ in rows.windows))
    there = [name for name in names if name in recordings]
    problems = {name: f"there is no recording called {name}" for name in names if name not in recordings}
    written = time.monotonic()
    n_threads = n_threads or os.cpu_count() or 1
    try:
        for count, (name, result) in enumerate(_scored(score, there, n_threads), 1):
            if isinstance(result, str):
                problems[name] = result
            else:
                for number, row in enumerate(result, 1):
                    submission.scores[name, number * GRID_S] = row
            now = time.monotonic()
            if count in (2 * n_threads, len(there) // 2):
                whole_s = (now - start) / count * len(there)
                factor = (whole_s - (now - start)) / max(time_budget_s - (now - start), 1e-9)
                change = plan.make_faster(fallback, factor) if factor > 1 else ""
                end = f"expected end after {whole_s:.0f} s"
                say(f"{count} of {len(there)} recordings; {end}{'; ' if change else ''}{change}")
            if now - written > WRITE_EVERY_S:
                submission.write()
                written = now
    finally:
        submission.write()
    n_scored = sum(window in submission.scores for window in rows.windows)
    return Done(len(rows.names), n_scored, problems, time.monotonic() - start)


def _scored(
    score: Callable[[str], np.ndarray], names: list[str], n_threads: int
) -> Iterator[tuple[str, np.ndarray | str]]:
    """(recording, its scores or why it has none), in order."""
    pool = ThreadPoolExecutor(n_threads)
    try:
        for name, future in [(name, pool.submit(score, name)) for name in names]:
            try:
                yield name, future.result()
            except (InputError, OSError, RuntimeError, MemoryError) as error:
                yield name, printable(error)
    finally:
        pool.shutdown(cancel_futures=True)


def parse_time(text: str) -> float:
    """Seconds of a time such as 85min, 1.5h or 90s; InputError for another text."""
    for unit, seconds in (("min", 60), ("h", 3600), ("s", 1)):
        if text.endswith(unit):
            try:
                return float(text[: -len(unit)]) * seconds
            except ValueError:
                break
    raise InputError(f"--time_budget must be a number with s, min or h, as 85min. Received: {text}")


def command() -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(prog="kaggle_submission.py", description="Write a submission to BirdCLEF.")
    parser.add_argument("model", type=Path, nargs="+", help="exported networks, with the files named after each")
    parser.add_argument("data", type=Path, help="folder of the competition")
    parser.add_argument("-o", "--output", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--audio", type=Path, help="folder of the recordings; default: DATA/test_soundscapes")
    parser.add_argument("--recording_s", type=float, default=60, help="length of the recordings; 2024: 240")
    parser.add_argument("--hop", type=float, default=0, help="seconds from one window to the next")
    parser.add_argument("--time_budget", default="1000h", help="no recording is begun after it, as 85min")
    parser.add_argument(
        "--competition", choices=COMPETITIONS, default=COMPETITIONS[0], help="2022: test.csv, True and False"
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="lowest probability of a True, in 2022")
    parser.add_argument(
        "--fallback",
        choices=FALLBACKS,
        default=FALLBACKS[0],
        help="a longer hop, or fewer models, for the rest of the recordings when the time would not do",
    )
    parser.add_argument("--threads", type=int, default=0, help="recordings at once; default: one per core")
    given = parser.parse_args()
    done = write_submission(
        given.model,
        given.data,
        given.output,
        audio=given.audio,
        recording_s=given.recording_s,
        hop_s=given.hop,
        time_budget_s=parse_time(given.time_budget),
        n_threads=given.threads,
        competition=given.competition,
        threshold=given.threshold,
        fallback=given.fallback,
        say=lambda line: print(line, file=sys.stderr),
    )
    print(f"{done.n_rows} rows, {done.n_scored} with scores; {given.output} ({done.seconds:.0f} s)")
    for name, reason in list(done.problems.items())[:5]:
        print(f"  {printable(name)}: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("kaggle_submission.py", command))
