"""Log-mel features inside a Keras network, on the torch and the tensorflow backend.

`transform="rfft"` uses the backend's FFT in float64 (training, prediction; the 1e-3 dB of the package hold);
`transform="dft"` uses gathers and matrix products in float32 only (portable_fft.py), so that every operation is a
TFLite builtin on every conversion route. The numbers of the definition are constants of the graph, not weights: the
layer adds nothing to a run's weights, and the precision policy changes nothing in it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.definition import Definition, define, finish
from birdnet_fs.frontend.portable_fft import band_energies
from birdnet_fs.schema import FrontEnd

Transform = Literal["rfft", "dft"]


def log_mel(waveform: Any, spec: FrontEnd, transform: Transform = "rfft") -> Any:
    """Log-mel features as a tensor of the running backend.

    Args:
        waveform: Floats in +-1, [batch, n_samples] or [n_samples], at `spec.sample_rate_hz`. n_samples must be
            known when the graph is built; where it is not, `spec.n_samples` is taken.
        spec: The front-end.
        transform: "rfft", or "dft" for gathers and matrix products only.

    Returns:
        float32 [batch, n_frames, n_mels]; NaN in a segment gives NaN in that segment's features.

    Raises:
        UserError: Wrong shape, or too short for one frame.
    """
    x = ops.cast(waveform, "float64" if transform == "rfft" else "float32")  # pre-emphasis takes digits as well
    if len(x.shape) not in (1, 2):
        raise UserError(f"A waveform must be [batch, n_samples] or [n_samples]. Received shape: {tuple(x.shape)}")
    definition = define(spec, int(x.shape[-1] or spec.n_samples))  # torch.jit gives a tensor
    with full_precision(x):
        x = ops.reshape(x, (-1, definition.n_samples))
        return finish((band_energies if transform == "dft" else _rfft)(x, definition), definition, ops)


def _rfft(x: Any, definition: Definition) -> Any:
    """Energies [batch, n_frames, n_mels] by the backend's own FFT, in float64."""
    spec, (low, high) = definition.spec, definition.bins
    if spec.preemphasis:
        x = ops.concatenate([x[:, :1], x[:, 1:] - spec.preemphasis * x[:, :-1]], axis=1)
    if definition.pad:
        x = ops.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=spec.pad_mode)
    # torch.stft centers unless told not to; the padding is done already, as the definition says
    re, im = ops.stft(x, spec.n_fft, spec.hop_length, spec.n_fft, window=definition.window, center=False)
    power = ops.cast((re * re + im * im)[:, :, low:high], "float32")
    return ops.matmul(power, definition.bands[:, low:high].T.astype(np.float32))


@contextlib.contextmanager
def full_precision(x: Any) -> Iterator[None]:
    """Outside any torch.autocast, which would run the matrix products in half precision."""
    if keras.backend.backend() == "torch":
        import torch

        kind = x.device.type if isinstance(x, torch.Tensor) else "cpu"
        if torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                yield
            return
    yield


@keras.saving.register_keras_serializable(package="birdnet_fs")
class FrontEndLayer(keras.layers.Layer):
    """Waveform [batch, n_samples] -> features [batch, n_frames, n_mels] as a layer of a network.

    Args:
        spec: The front-end, or its settings as a mapping (as a saved model holds them).
        transform: "rfft", or "dft" for gathers and matrix products only.
    """

    def __init__(self, spec: FrontEnd | Mapping[str, Any], transform: Transform = "rfft", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        if transform not in ("rfft", "dft"):
            raise UserError(f"transform must be 'rfft' or 'dft'. Received: {transform!r}")
        self.spec = spec if isinstance(spec, FrontEnd) else FrontEnd.from_artifact(spec)
        self.transform: Transform = transform

    def call(self, waveform: Any) -> Any:
        """See `log_mel`."""
        return log_mel(waveform, self.spec, self.transform)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_frames, n_mels)."""
        return (input_shape[0], *define(self.spec, input_shape[-1] or self.spec.n_samples).shape)

    def get_config(self) -> dict[str, Any]:
        """The spec as plain JSON values, and the transform."""
        return {**super().get_config(), "spec": self.spec.to_artifact(), "transform": self.transform}
