"""False alarms: how often a model with its thresholds reports a class in recordings that hold none.

The recordings are synthetic noise (data/synthetic/noise.py), which every model can be scored on, and recordings of the
user without any of the classes. A false alarm is a class detected in a window; the upper end of a rate is the exact one
of a Poisson count (Garwood 1936, https://doi.org/10.1093/biomet/28.3-4.437).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.stats import chi2

from birdnet_fs.analysis.inputs import find_recordings
from birdnet_fs.audio.read import stream_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.synthetic.noise import KINDS, synthesize_noise
from birdnet_fs.data.synthetic.song import SAMPLE_RATE_HZ
from birdnet_fs.data.windows import batched, overlap_rule
from birdnet_fs.inference.engine import Engine

BATCH = 32
RECORDING_S = 60.0  # of one synthetic recording
BACKGROUND = "background"
UPPER = 0.95
PostProcess = Callable[[NDArray, Path | None], NDArray]


@dataclass(frozen=True)
class NoiseScores:
    """Scores of the windows of one kind of noise.

    Attributes:
        scores: float32 [n_windows, n_classes].
        hours: Hours of audio.
    """

    scores: NDArray[np.float32]
    hours: float


@dataclass(frozen=True)
class FalseAlarms:
    """False alarms of one kind of noise.

    Attributes:
        hours: Hours of audio.
        by_class: int64 [n_classes], number of each class.
    """

    hours: float
    by_class: NDArray[np.int64]

    @property
    def n(self) -> int:
        """Number of all classes together."""
        return int(self.by_class.sum())

    @property
    def per_hour(self) -> float:
        """Number in an hour."""
        return self.n / self.hours

    @property
    def upper_per_hour(self) -> float:
        """Number in an hour that is not exceeded with 95 % confidence."""
        return float(chi2.ppf(UPPER, 2 * (self.n + 1)) / 2 / self.hours)


def score_noise(
    engine: Engine, seconds: float, *, post: PostProcess | None = None, hop_s: float = 0.0, seed: int = 0
) -> dict[str, NoiseScores]:
    """Score synthetic noise of every kind.

    Args:
        engine: The model.
        seconds: Length of each kind in seconds, in recordings of a minute; 0 gives no scores.
        post: Post-processing of a recording: scores [n_windows, n_classes] and its path, None here -> scores. Default:
            None.
        hop_s: Seconds between windows. Default: 0, without overlap.
        seed: Seed of the noise. Default: 0.

    Returns:
        Kind -> its scores.
    """
    if seconds <= 0:
        return {}
    lengths = [min(RECORDING_S, seconds - start) for start in np.arange(0, seconds, RECORDING_S)]
    work = [(kind, number, length) for kind in KINDS for number, length in enumerate(lengths)]
    found: dict[str, list[NDArray[np.float32]]] = {kind: [] for kind in KINDS}
    for kind, number, length in track(work, "scoring noise", unit="recording"):
        waveform = synthesize_noise(kind, length, seed=seed, number=number)
        rate = engine.sample_rate_hz
        blocks = [waveform if rate == SAMPLE_RATE_HZ else soxr.resample(waveform, SAMPLE_RATE_HZ, rate)]
        found[kind] += _score(engine, blocks, hop_s, post, None)
    return {kind: NoiseScores(np.concatenate(rows), seconds / 3600) for kind, rows in found.items()}


def score_background(
    engine: Engine, folder: Path, *, post: PostProcess | None = None, hop_s: float = 0.0
) -> NoiseScores:
    """Score recordings without any of the classes.

    Args:
        engine: The model.
        folder: A recording, or a folder that is searched at any depth.
        post: Post-processing of a recording: its scores float [n_windows, n_classes] and its path -> scores of the same
            shape. Default: None.
        hop_s: Seconds between windows. Default: 0, without overlap.

    Returns:
        The scores of the recordings that can be read; the others are named on stderr.

    Raises:
        UserError: No recording can be read.
    """
    _, recordings, _ = find_recordings([folder])
    rows: list[NDArray[np.float32]] = []
    seconds = 0.0
    for path in track(recordings, "scoring background", unit="recording"):
        stream, reason = stream_audio(path, sample_rate_hz=engine.sample_rate_hz), "it holds no audio"
        try:
            found = _score(engine, stream, hop_s, post, path)
        except UserError as error:
            found, reason = [], str(error)
        if not found:
            say(f"background: {escaped(path)} is left out ({(stream.reason or reason).rstrip('.')}).")
            continue
        rows += found
        seconds += float(stream.duration_s)
    if not rows:
        raise UserError(f"None of the recordings in {escaped(folder)} can be read; give others without the classes.")
    return NoiseScores(np.concatenate(rows), seconds / 3600)


def count_false_alarms(found: Mapping[str, NoiseScores], thresholds: NDArray[np.float32]) -> dict[str, FalseAlarms]:
    """Count the windows in which a class is detected.

    Args:
        found: Kind of noise -> its scores.
        thresholds: float32 [n_classes], lowest score of a detection; infinite for classes that are not detected.

    Returns:
        Kind of noise -> its false alarms.
    """
    return {kind: FalseAlarms(each.hours, (each.scores >= thresholds).sum(axis=0)) for kind, each in found.items()}


def _score(
    engine: Engine, blocks: Iterable[np.ndarray], hop_s: float, post: PostProcess | None, path: Path | None
) -> list[NDArray[np.float32]]:
    """Post-processed scores of one recording, [] for one without audio."""
    rows = list(_window_scores(engine, blocks, hop_s))
    if not rows:
        return []
    scores = np.concatenate(rows)
    return [scores if post is None else post(scores, path)]


def _window_scores(engine: Engine, blocks: Iterable[np.ndarray], hop_s: float) -> Iterator[NDArray[np.float32]]:
    overlap_s = max(0.0, engine.segment_s - hop_s) if hop_s else 0.0
    rule = overlap_rule(engine.segment_s, engine.sample_rate_hz, overlap_s)
    for group in batched(rule.stream(blocks), BATCH):
        yield engine.probabilities(np.stack([waveform for _, waveform in group]), batch_size=BATCH)
