"""`Engine`: one interface for everything that scores waveforms, a run (torch), an ensemble or an exported file.

An engine holds what callers need of a model (classes, input, activation) and one function from waveforms to logits.
`open.open_engine` makes one. A run is lowered to flat torch calls; exported files are opened in exported.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.activations import to_probabilities

if TYPE_CHECKING:
    import keras

    from birdnet_fs.inference.calibration.stored import Calibration
    from birdnet_fs.inference.encoder_features import EncoderFeatures
    from birdnet_fs.runs.run import Run


NumpyFunction = Callable[[np.ndarray], np.ndarray]


class WindowSpec(Protocol):
    """Rate and length of the windows that a model or an encoder reads."""

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        ...

    @property
    def segment_s(self) -> float:
        """Length of a window in seconds."""
        ...

    @property
    def n_samples(self) -> int:
        """Length of a window in samples."""
        ...


class InputSpec(WindowSpec, Protocol):
    """Properties of a front-end that callers use: a `schema.FrontEnd`, or the `CombinedInputSpec` of an ensemble."""

    @property
    def fmin_hz(self) -> float:
        """Lowest frequency of the features."""
        ...

    @property
    def fmax_hz(self) -> float:
        """Highest frequency of the features."""
        ...


@dataclass(frozen=True)
class Engine:
    """A model ready to score.

    Attributes:
        classes: Class names in model order.
        frontend: Sample rate, segment length and frequency range of the input.
        activation: "softmax" or "sigmoid", applied to the logits.
        identity: Text that changes when the model does (SHA-256 of its files).
        forward: float32 waveforms [n, n_samples] -> float32 logits [n, n_classes], for one batch; several threads may
            call it at once.
        gives_ranks: Whether the scores are positions of a ranking, by class, and not probabilities (an ensemble that
            combines ranks). Default: False.
        one_label: Whether a clip has one label although the activation is "sigmoid" (ranks or log-odds of a softmax).
            Default: False.
        clip_hop_s: Seconds between starts of the windows of a clip, as in `windows.clip_rule`. Default: 0.
        encoder: The encoders in front of the head of a run; embeddings of labeled clips are kept. Default: None.
        head: Embeddings float32 [n, *encoder.input_shape] -> logits float32 [n, n_classes]. Default: None.
        calibration: The calibration behind these logits, with its thresholds. Default: None.
        runtime: Name of the runtime, for messages. Default: "".
        frames: float32 waveforms [n, n_samples] -> float32 logits of frames [n, n_steps, n_classes], of a run with the
            head "sed" that is not calibrated. Default: None.
    """

    classes: tuple[str, ...]
    frontend: InputSpec
    activation: str
    identity: str
    forward: NumpyFunction
    gives_ranks: bool = False
    one_label: bool = False
    clip_hop_s: float = 0.0
    encoder: "EncoderFeatures | None" = None
    head: NumpyFunction | None = None
    calibration: "Calibration | None" = None
    runtime: str = ""
    frames: NumpyFunction | None = None

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
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.
            batch_size: Waveforms per call of the model, 1 or more. Default: 32.

        Returns:
            float32 [n, n_classes].

        Raises:
            UserError: The shape is not [n, n_samples], a sample is not finite, the output of the model has another
                shape than [n, n_classes], or a logit is NaN or infinite.
        """
        if batch_size < 1:
            raise UserError(f"batch_size must be 1 or more. Received: {batch_size}")
        if waveforms.ndim != 2 or waveforms.shape[1] != self.n_samples:
            raise UserError(f"Waveforms must be [n, {self.n_samples}]. Received shape: {list(waveforms.shape)}")
        # some models turn NaN into plausible logits
        if not np.isfinite(waveforms).all():
            raise UserError("The waveform holds samples that are NaN or infinite; repair the recording.")
        waveforms = np.ascontiguousarray(waveforms, np.float32)
        found = np.empty((len(waveforms), len(self.classes)), np.float32)
        for start in range(0, len(waveforms), batch_size):
            rows = waveforms[start : start + batch_size]
            given = self.forward(rows)
            if given.shape != (len(rows), len(self.classes)):  # one row would be spread over all without an error
                raise UserError(
                    f"The model must give logits [{len(rows)}, {len(self.classes)}] for {len(rows)} segments. Received "
                    f"shape: {list(given.shape)}; its scores cannot be used."
                )
            found[start : start + batch_size] = given
        if not np.isfinite(found).all():
            raise UserError(
                "The logits of the model hold NaN or infinity for this recording; its scores cannot be used."
            )
        return found

    def frame_probabilities(self, waveforms: np.ndarray) -> np.ndarray:
        """Probabilities of the frames of one batch.

        Args:
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.

        Returns:
            float32 [n, n_steps, n_classes].

        Raises:
            UserError: The network has no scores of frames, or a waveform or logit is NaN or infinite.
        """
        if self.frames is None:
            raise UserError("The network has no scores of frames: use a run with model.head=sed, not calibrated.")
        if not np.isfinite(waveforms).all():
            raise UserError("The waveform holds samples that are NaN or infinite; repair the recording.")
        logits = self.frames(np.ascontiguousarray(waveforms, np.float32))
        if not np.isfinite(logits).all():
            raise UserError("The logits of frames hold NaN or infinity for this recording; they cannot be used.")
        return to_probabilities(logits, self.activation).astype(np.float32)

    def probabilities(self, waveforms: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """`logits` through the activation: float32 [n, n_classes] in 0..1."""
        return to_probabilities(self.logits(waveforms, batch_size=batch_size), self.activation).astype(np.float32)


def build_on_device(run: "Run", *, threads: int = 0) -> "keras.Model":
    """The network of a run with its weights, on the GPU where torch finds one, else on the CPU.

    Args:
        run: The run, from `load_run`.
        threads: CPU threads of torch, 1 or more. Default: 0, left as they are.

    Returns:
        A Keras model: features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes].
    """
    import keras
    import torch

    if threads:
        torch.set_num_threads(threads)
    with keras.device("cuda" if torch.cuda.is_available() else "cpu"):
        return run.build_model()


def torch_runtime() -> str:
    """Version of torch, and the device that networks run on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"torch {torch.__version__.split('+')[0]} on {device}"


def lowered_network(model: "keras.Model") -> NumpyFunction:
    """A Keras model as a function of NumPy arrays, with its weights as they are now, BatchNorm folded in.

    Args:
        model: Features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes]; the function runs on the
            device of its weights.

    Returns:
        Features float32 [n, n_frames, n_mels, n_channels] -> logits float32 [n, n_classes].
    """
    import torch

    from birdnet_fs.models.lowering.lower import lower

    network, device = lower(model, fold=True), model.weights[0].value.device

    def logits_of(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = network(torch.from_numpy(features).to(device), training=False)
        return found.float().cpu().numpy()

    return logits_of


def network_features(waveforms: np.ndarray, spec: schema.FrontEnd) -> np.ndarray:
    """Waveforms [n, n_samples] -> what a network reads, float32 [n, n_frames, n_mels, n_channels]."""
    from birdnet_fs.frontend.in_numpy import log_mel, network_input

    return network_input(log_mel(waveforms, spec), spec)
