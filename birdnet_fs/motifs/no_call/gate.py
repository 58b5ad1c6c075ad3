"""Gate of `analyze --gate`, which finds windows with a call: a no-call model, or a classifier of calls."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats.cells import NO_CALL
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.engine import Engine
from birdnet_fs.inference.open import open_engine
from birdnet_fs.motifs.no_call.model import metadata_path, open_model

CLASSIFIER_THRESHOLD = 0.5


class Gate(Protocol):
    """A gate."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        ...

    @property
    def window_s(self) -> float:
        """Length in seconds of the windows it was fitted with."""
        ...

    @property
    def threshold(self) -> float:
        """Lowest probability of a call with which a window passes, 0..1."""
        ...

    @property
    def identity(self) -> str:
        """Text that changes when a probability does."""
        ...

    def probabilities(self, waveforms: np.ndarray) -> NDArray[np.float64]:
        """Probability of a call in each window: float32 [n, n_samples] of any length -> float64 [n]."""
        ...


@dataclass(frozen=True, eq=False)
class ClassifierGate:
    """A classifier with one class of calls, as a gate.

    Attributes:
        engine: The classifier.
        threshold: Lowest probability of a call with which a window passes, 0..1.
    """

    engine: Engine
    threshold: float

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        return self.engine.sample_rate_hz

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.engine.segment_s

    @property
    def identity(self) -> str:
        """Text that changes when a probability does."""
        return self.engine.identity

    def probabilities(self, waveforms: np.ndarray) -> NDArray[np.float64]:
        """Highest probability of the class of calls in the windows of the classifier that cover each waveform.

        Args:
            waveforms: float32 [n, n_samples] in ±1 of any length, at `sample_rate_hz`.

        Returns:
            float64 [n].
        """
        rule = clip_rule(self.engine.n_samples, self.sample_rate_hz)
        [column] = _call_classes(self.engine)
        scores = [self.engine.probabilities(rule.cut(waveform))[:, column].max() for waveform in waveforms]
        return np.array(scores, np.float64)


def open_gate(path: Path | str, *, threshold: float | None = None, threads: int = 0) -> Gate:
    """Open a gate; UserErrors of `open_model` and `open_engine` are passed on.

    Args:
        path: A no-call model, or a run, ensemble or exported file with one class of calls.
        threshold: Lowest probability of a call with which a window passes, 0..1. Default: None, the stored one of a
            no-call model, and 0.5 for a classifier.
        threads: CPU threads. Default: 0, the runtime decides.

    Returns:
        The gate.

    Raises:
        UserError: The threshold is out of range, or a classifier has not one class of calls.
    """
    path = Path(path)
    if threshold is not None and not 0 <= threshold <= 1:
        raise UserError(f"The threshold of a gate must be in 0..1. Received: {threshold}")
    if path.is_file() and metadata_path(path).is_file():
        model = open_model(path, threads=threads)
        return model if threshold is None else replace(model, threshold=threshold)
    engine = open_engine(path, threads=threads)
    if engine.gives_ranks or len(_call_classes(engine)) != 1:
        shown = ", ".join(map(escaped, engine.classes[:5]))
        raise UserError(
            "A gate must be a no-call model (birdnet-fs nocall), or a classifier with one class of calls, such as one "
            f"trained with data.binary_label=call. Received: {escaped(path)}, with {len(engine.classes)} classes "
            f"({shown})"
        )
    return ClassifierGate(engine, CLASSIFIER_THRESHOLD if threshold is None else threshold)


def _call_classes(engine: Engine) -> list[int]:
    """Numbers of the classes that are no words for the absence of a call."""
    return [number for number, name in enumerate(engine.classes) if name.lower() not in NO_CALL]
