"""What scores waveforms: a run folder (torch), an ensemble of runs, or an exported file, behind one `Engine`.

An engine holds everything a caller needs to know about the model (classes, what it listens to, activation) and
one function from waveforms to logits. A run is lowered to flat torch calls; exported files are opened in artifacts.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.inference.clip_scores import lowered_network

if TYPE_CHECKING:
    from birdnet_fs.runs.run import Run


class InputSpec(Protocol):
    """What a caller has to know of a front-end; a `schema.FrontEnd` says it, and so does an ensemble's `CombinedInputSpec`."""

    @property
    def sample_rate_hz(self) -> int: ...
    @property
    def segment_s(self) -> float: ...
    @property
    def n_samples(self) -> int: ...
    @property
    def fmin_hz(self) -> float: ...
    @property
    def fmax_hz(self) -> float: ...


@dataclass(frozen=True)
class Engine:
    """A model ready to score.

    Attributes:
        classes: Class names in model order.
        frontend: The front-end; gives sample rate, segment length and frequency range.
        activation: "softmax" or "sigmoid", what turns logits into probabilities.
        identity: Text that changes when the model does (SHA-256 of its files).
        forward: float32 waveforms [n, n_samples] -> float32 logits [n, n_classes], for one batch.
        gives_ranks: Whether the scores rank clips by class and are no probabilities (an ensemble's mean ranks).
        one_label: Whether a clip has one label although the activation is "sigmoid" (ranks or log-odds of a softmax).
    """

    classes: tuple[str, ...]
    frontend: InputSpec
    activation: str
    identity: str
    forward: Callable[[np.ndarray], np.ndarray]
    gives_ranks: bool = False
    one_label: bool = False

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have any number of labels."""
        return self.activation == "sigmoid" and not self.one_label

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        return self.frontend.sample_rate_hz

    @property
    def segment_s(self) -> float:
        """Length of one waveform in seconds."""
        return self.frontend.segment_s

    @property
    def n_samples(self) -> int:
        """Length of one waveform in samples."""
        return self.frontend.n_samples

    def logits(self, waveforms: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Score waveforms, `batch_size` at a time.

        Args:
            waveforms: float32 [n, n_samples], +-1, at `sample_rate_hz`.
            batch_size: How many the model is given at once.

        Returns:
            float32 [n, n_classes].

        Raises:
            UserError: The shape is another, a sample is not finite, or the model answers with NaN or infinity.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] != self.n_samples:
            raise UserError(f"Waveforms must be [n, {self.n_samples}]. Received shape: {list(waveforms.shape)}")
        # a model may run over NaN and answer with plausible numbers
        if not np.isfinite(waveforms).all():
            raise UserError("The waveform holds samples that are NaN or infinite; repair the recording.")
        waveforms = np.ascontiguousarray(waveforms, np.float32)
        found = np.empty((len(waveforms), len(self.classes)), np.float32)
        for start in range(0, len(waveforms), batch_size):
            found[start : start + batch_size] = self.forward(waveforms[start : start + batch_size])
        if not np.isfinite(found).all():
            raise UserError("The model answered with NaN or infinity for this recording; its scores cannot be used.")
        return found

    def probabilities(self, waveforms: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """`logits` through the activation: float32 [n, n_classes] in 0..1."""
        return to_probabilities(self.logits(waveforms, batch_size=batch_size), self.activation).astype(np.float32)


def run_network(run: "Run", *, threads: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """The network of a run: float32 features [n, n_frames, n_mels, n_channels] -> float32 logits [n, n_classes].

    Args:
        run: What `load_run` gave.
        threads: CPU threads torch may use; 0 leaves them as they are.
    """
    import keras
    import torch

    if threads:
        torch.set_num_threads(threads)
    with keras.device("cuda" if torch.cuda.is_available() else "cpu"):
        return lowered_network(run.build_model())


def network_features(waveforms: np.ndarray, spec: schema.FrontEnd) -> np.ndarray:
    """Waveforms [n, n_samples] -> what a network reads, float32 [n, n_frames, n_mels, n_channels]."""
    from birdnet_fs.frontend.in_numpy import log_mel, network_input

    return network_input(log_mel(waveforms, spec), spec)
