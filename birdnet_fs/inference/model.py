"""`Model`: a run, an ensemble or an exported file that scores recordings and waveforms, for use from Python.

model = birdnet_fs.load("runs/birds10/fold0")
table = model.predict("recording.wav", overlap_s=1.0)
table["Turdus merula"]  # float32 [n_windows]
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr

from birdnet_fs.audio.read import stream_audio
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.windows import WindowRule, batched, overlap_rule
from birdnet_fs.inference.engine import Engine
from birdnet_fs.inference.open import open_engine

if TYPE_CHECKING:
    import pandas

TIMES = ("start_s", "end_s")
BATCH = 32  # windows per call of the model, as `analyze` has by default


@dataclass(frozen=True, eq=False)
class WindowTable:
    """Scores of the windows of one recording: `table[name]` is a column, `len(table)` the number of windows.

    Attributes:
        start_s: float64 [n_windows], start of each window in seconds.
        end_s: float64 [n_windows], end of each window in seconds, not later than the end of the recording.
        scores: float32 [n_windows, n_classes], probabilities in 0..1 (for an ensemble that combines ranks: positions).
        classes: Class names in the order of the columns of `scores`.
        status: "ok", or "partial" for a recording of which a part could not be decoded. Default: "ok".
        reason: Reason for a partial recording. Default: "".
    """

    start_s: np.ndarray
    end_s: np.ndarray
    scores: np.ndarray
    classes: tuple[str, ...]
    status: str = "ok"
    reason: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names that `table[name]` accepts: start_s, end_s, then the classes."""
        return (*TIMES, *self.classes)

    def __len__(self) -> int:
        return len(self.start_s)

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __getitem__(self, name: str) -> np.ndarray:
        """A column of the table.

        Args:
            name: One of `columns`.

        Returns:
            [n_windows], float64 for times and float32 for scores.

        Raises:
            UserError: There is no such column; the message names the most similar one.
        """
        if name in TIMES:
            return self.start_s if name == TIMES[0] else self.end_s
        if name not in self.classes:
            raise UserError(
                f"A column must be start_s, end_s or a class of the model.{nearest(name, self.columns)} "
                f"Received: {name!r}"
            )
        return self.scores[:, self.classes.index(name)]

    def to_pandas(self) -> "pandas.DataFrame":
        """The table as a pandas DataFrame; birdnet_fs does not install pandas.

        Returns:
            A DataFrame with `columns` and one row per window.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("to_pandas needs pandas; install it with `pip install pandas`.") from None
        return pandas.DataFrame({name: self[name] for name in self.columns})


class Model:
    """A model that scores recordings and waveforms.

    Args:
        engine: The run, ensemble or exported file, from `open_engine`.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in model order."""
        return self.engine.classes

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms that the model reads."""
        return self.engine.sample_rate_hz

    @property
    def segment_s(self) -> float:
        """Length of one window in seconds."""
        return self.engine.segment_s

    def predict(
        self, audio: Path | str | np.ndarray, overlap_s: float = 0.0, *, sample_rate_hz: int | None = None
    ) -> WindowTable:
        """Score a recording or a waveform window by window.

        Windows are cut by the rule of `data.windows`: one window starts every `segment_s - overlap_s` seconds, and a
        rest of at least min(1 s, half a window) is one more, padded window. Recordings are streamed, so that their
        length is not limited by memory.

        Args:
            audio: Path of a recording of any sample rate, or a mono waveform [n_samples], float in ±1 or int16.
            overlap_s: Overlap of consecutive windows in seconds, from 0 to less than `segment_s`. Default: 0.
            sample_rate_hz: Sample rate of a waveform; it is resampled to that of the model. Default: None, the rate of
                the model.

        Returns:
            A table with columns start_s, end_s and one per class. Where a part of a recording could not be decoded,
            the other windows are scored, `status` is "partial", and a line on stderr gives the reason.

        Raises:
            UserError: The recording cannot be decoded, the waveform is not mono audio, or a value is out of its range.
        """
        rule = overlap_rule(self.segment_s, self.sample_rate_hz, overlap_s)
        if isinstance(audio, np.ndarray):
            waveform = self._resampled(audio, sample_rate_hz)
            return self._table(rule, [waveform], lambda: len(waveform) / self.sample_rate_hz)
        if not isinstance(audio, (str, os.PathLike)):
            raise UserError(f"audio must be a path or a NumPy array. Received: {type(audio).__name__}")
        if sample_rate_hz is not None:
            raise UserError(f"sample_rate_hz is for waveforms; a file has its own. Received: {sample_rate_hz}")
        stream = stream_audio(Path(audio), sample_rate_hz=self.sample_rate_hz)
        table = self._table(rule, stream, lambda: stream.duration_s)
        if stream.status == "quarantined" or not len(table):
            raise UserError(f"{escaped(audio)} cannot be scored: {(stream.reason or 'it holds no audio').rstrip('.')}.")
        if stream.status == "partial":
            say(f"{escaped(audio)} was scored in part: {stream.reason.rstrip('.')}.")
        return replace(table, status=stream.status, reason=stream.reason)

    def _table(self, rule: WindowRule, blocks: Iterable[np.ndarray], duration_s: Callable[[], float]) -> WindowTable:
        """Score the blocks of one recording; `duration_s` is called after the last block."""
        windows, scores = [], [np.zeros((0, len(self.classes)), np.float32)]
        for group in batched(rule.stream(blocks), BATCH):
            windows += [window for window, _ in group]
            scores.append(self.engine.probabilities(np.stack([waveform for _, waveform in group]), batch_size=BATCH))
        spans = np.array([rule.span_s(window, duration_s()) for window in windows], np.float64).reshape(-1, 2)
        return WindowTable(spans[:, 0], spans[:, 1], np.concatenate(scores), self.classes)

    def _resampled(self, waveform: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        """A mono waveform as float32 [n_samples] at the sample rate of the model."""
        if waveform.ndim != 1 or not len(waveform):
            raise UserError(f"A waveform must be mono, [n_samples], not empty. Received shape: {list(waveform.shape)}")
        if waveform.dtype != np.int16 and not np.issubdtype(waveform.dtype, np.floating):
            raise UserError(f"A waveform must be float in ±1, or int16. Received dtype: {waveform.dtype}")
        scale = 32768 if waveform.dtype == np.int16 else 1
        waveform = np.ascontiguousarray(waveform, np.float32) / np.float32(scale)
        if sample_rate_hz in (None, self.sample_rate_hz):
            return waveform
        if sample_rate_hz < 1:
            raise UserError(f"sample_rate_hz must be 1 or more. Received: {sample_rate_hz}")
        return soxr.resample(waveform, sample_rate_hz, self.sample_rate_hz, quality="HQ")


def load(path: Path | str, *, threads: int = 0) -> Model:
    """Open a run folder, an ensemble or an exported file (.tflite or .onnx with its .json) for scoring.

    A path that is none of these, a damaged file or a missing runtime raises the UserError of `open_engine`.

    Args:
        path: Folder or file.
        threads: CPU threads of the model, 1 or more. Default: 0, the runtime decides.

    Returns:
        A model with `classes` and `predict`.
    """
    return Model(open_engine(path, threads=threads))
