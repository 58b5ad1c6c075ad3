"""One object that scores: a run, an ensemble or an exported file, for use from Python.

model = birdnet_fs.load("runs/birds10/fold0")
table = model.predict("recording.wav", overlap_s=1.0)
table["Turdus merula"]  # float32 [n_windows]
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.data.windows import batched, overlap_rule
from birdnet_fs.inference.engine import Engine
from birdnet_fs.inference.open import open_engine

if TYPE_CHECKING:
    import pandas

TIMES = ("start_s", "end_s")
BATCH = 32  # windows per call of the network


@dataclass(frozen=True)
class WindowTable:
    """Scores of the windows of one recording: `table[name]` is a column, `len(table)` the number of windows.

    Attributes:
        start_s: float64 [n_windows], start of each window in the recording, seconds.
        end_s: float64 [n_windows], its end, not later than that of the recording.
        scores: float32 [n_windows, n_classes], probabilities in 0..1 (positions in 0..1 of an ensemble of ranks).
        classes: Class names in the order of the columns of `scores`.
        status: "ok", or "partial" for a recording of which a part could not be decoded.
        reason: What is wrong with a partial recording; "" for "ok".
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
        """One column, [n_windows].

        Raises:
            UserError: There is no such column; the nearest is named.
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
        """The table as a pandas DataFrame (pandas is not installed with birdnet_fs).

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame({name: self[name] for name in self.columns})


class Model:
    """A model that scores recordings and waveforms.

    Args:
        engine: What `open_engine` gave.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in model order."""
        return self.engine.classes

    @property
    def sample_rate_hz(self) -> int:
        """Rate of the waveforms that the model reads."""
        return self.engine.sample_rate_hz

    @property
    def segment_s(self) -> float:
        """Length of one window in seconds."""
        return self.engine.segment_s

    def predict(
        self, audio: Path | str | np.ndarray, overlap_s: float = 0.0, *, sample_rate_hz: int | None = None
    ) -> WindowTable:
        """Score a recording window by window, in constant memory.

        Windows are cut by the rule of `data.windows`: every `segment_s - overlap_s` seconds, a rest of at least
        min(1 s, half a window) is one more window.

        Args:
            audio: Path of a recording of any rate, or a mono waveform [n_samples], float in +-1 or int16.
            overlap_s: Overlap of consecutive windows in seconds, 0 up to `segment_s`. Default: 0.
            sample_rate_hz: Rate of a waveform; it is resampled to the model's. Default: the model's rate.

        Returns:
            A table with columns start_s, end_s and one per class.

        Raises:
            UserError: The recording cannot be decoded, the waveform is no mono audio, or a value is out of its range.
        """
        rule = overlap_rule(self.segment_s, self.sample_rate_hz, overlap_s)
        if isinstance(audio, np.ndarray):
            stream: Any = [self._waveform(audio, sample_rate_hz)]
        elif sample_rate_hz is not None:
            raise UserError(f"sample_rate_hz is for waveforms; a file states its own. Received: {sample_rate_hz}")
        else:
            from birdnet_fs.audio.read import stream_audio

            stream = stream_audio(Path(audio), sample_rate_hz=self.sample_rate_hz)
        windows, scores = [], []
        for group in batched(rule.stream(stream), BATCH):
            windows += [window for window, _ in group]
            scores.append(self.engine.probabilities(np.stack([waveform for _, waveform in group]), batch_size=BATCH))
        if isinstance(audio, np.ndarray):
            duration_s, status, reason = len(stream[0]) / self.sample_rate_hz, "ok", ""
        else:
            duration_s, status, reason = stream.duration_s, stream.status, stream.reason
            if status == "quarantined" or not windows:
                raise UserError(f"{audio} cannot be scored: {reason or 'it holds no audio'}.")
        spans = np.array([rule.span_s(window, duration_s) for window in windows], np.float64).reshape(-1, 2)
        probabilities = np.concatenate(scores) if scores else np.zeros((0, len(self.classes)), np.float32)
        return WindowTable(spans[:, 0], spans[:, 1], probabilities, self.classes, status, reason)

    def _waveform(self, waveform: np.ndarray, sample_rate_hz: int | None) -> np.ndarray:
        """A mono waveform float32 [n_samples] at the model's rate."""
        if waveform.ndim != 1 or not len(waveform):
            raise UserError(f"A waveform must be mono, [n_samples], not empty. Received shape: {list(waveform.shape)}")
        if waveform.dtype == np.int16:
            waveform = waveform.astype(np.float32) / 32768
        elif not np.issubdtype(waveform.dtype, np.floating):
            raise UserError(f"A waveform must be float in +-1, or int16. Received dtype: {waveform.dtype}")
        if sample_rate_hz is not None and sample_rate_hz != self.sample_rate_hz:
            if sample_rate_hz < 1:
                raise UserError(f"sample_rate_hz must be 1 or more. Received: {sample_rate_hz}")
            import soxr

            waveform = soxr.resample(waveform, sample_rate_hz, self.sample_rate_hz, quality="HQ")
        return np.ascontiguousarray(waveform, np.float32)


def load(path: Path | str, *, threads: int = 0) -> Model:
    """Open a run folder, an ensemble or an exported file (.tflite or .onnx with its .json) for scoring.

    Args:
        path: Folder or file.
        threads: CPU threads the model may use. Default: 0, the runtime decides.

    Returns:
        A model with `classes` and `predict`.

    Raises:
        UserError: None of these, damaged, or the runtime for it is not installed.
    """
    return Model(open_engine(path, threads=threads))
