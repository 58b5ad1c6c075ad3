"""Log-mel features inside a Keras network, on the torch and the tensorflow backend.

`transform="rfft"` uses the backend's FFT in float64, for training and prediction; it is within the package's tolerance
of 1e-3 dB. `transform="dft"` uses only gathers and matrix products in float32 (portable_fft.py), which every conversion
route and runtime has. `transform="rfft2d"` is for TFLite, whose builtin FFT it becomes (builtin_fft.py). The constants
of the definition are constants of the graph, not weights: the layer has no weights, and the dtype policy does not
affect it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import builtin_fft, portable_fft
from birdnet_fs.frontend.definition import Definition, apply_steps, clip_frames, define
from birdnet_fs.schema import FrontEnd

Transform = Literal["rfft", "dft", "rfft2d"]


def log_mel(waveform: Any, spec: FrontEnd, transform: Transform = "rfft") -> Any:
    """Log-mel features as a tensor of the running backend.

    Args:
        waveform: Floats in +-1, [batch, n_samples] or [n_samples], at `spec.sample_rate_hz`. Where n_samples is
            unknown when the graph is built, it must be `spec.n_samples`.
        spec: The front-end.
        transform: "rfft"; "dft" for gathers and matrix products only; "rfft2d" for TFLite. Default: "rfft".

    Returns:
        float32 [batch, n_frames, n_mels]; NaN in a segment gives NaN in that segment's features.

    Raises:
        UserError: The waveform has a wrong shape or is too short for one frame.
    """
    x = ops.cast(waveform, "float64" if transform == "rfft" else "float32")  # pre-emphasis loses digits too
    if len(x.shape) not in (1, 2):
        raise UserError(f"A waveform must be [batch, n_samples] or [n_samples]. Received shape: {tuple(x.shape)}")
    definition = define(spec, int(x.shape[-1] or spec.n_samples))  # int: torch.jit gives a tensor
    with full_precision(x):
        x = ops.reshape(x, (-1, definition.n_samples))
        own = clip_frames(x, definition, ops)
        return apply_steps(_TRANSFORMS[transform](x, definition), definition, ops, own=own)


def _rfft(x: Any, definition: Definition) -> Any:
    """Band energies [batch, n_frames, n_mels] by the backend's FFT in float64."""
    spec, (low, high) = definition.spec, definition.bins
    if spec.preemphasis:
        x = ops.concatenate([x[:, :1], x[:, 1:] - spec.preemphasis * x[:, :-1]], axis=1)
    if definition.pad:
        x = ops.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=spec.pad_mode)
    # the waveform is padded already; torch.stft's default would pad it again
    re, im = ops.stft(x, spec.n_fft, spec.hop_length, spec.n_fft, window=definition.window, center=False)
    power = ops.cast((re * re + im * im)[:, :, low:high], "float32")
    if spec.bands == "spectrum":
        return power
    return ops.matmul(power, definition.bands[:, low:high].T.astype(np.float32))


_TRANSFORMS = {"rfft": _rfft, "dft": portable_fft.band_energies, "rfft2d": builtin_fft.band_energies}


@contextlib.contextmanager
def full_precision(x: Any) -> Iterator[None]:
    """Disable torch.autocast, which would run matrix products in half precision.

    Args:
        x: A tensor on the device for which autocast is disabled; ignored on other backends than torch.

    Yields:
        Nothing.
    """
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
    """Layer that computes features [batch, n_frames, n_mels] of waveforms [batch, n_samples].

    Args:
        spec: The front-end, or its settings as a mapping (from the config of a saved model).
        transform: "rfft"; "dft" for gathers and matrix products only; "rfft2d" for TFLite. Default: "rfft".
        **kwargs: Arguments of `keras.layers.Layer`; dtype and trainable are overridden.

    Raises:
        UserError: There is no such transform.
    """

    def __init__(self, spec: FrontEnd | Mapping[str, Any], transform: Transform = "rfft", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        if transform not in _TRANSFORMS:
            raise UserError(f"transform must be one of {', '.join(_TRANSFORMS)}. Received: {transform!r}")
        self.spec = spec if isinstance(spec, FrontEnd) else FrontEnd.from_artifact(spec)
        self.transform: Transform = transform

    def call(self, waveform: Any) -> Any:
        """Log-mel features float32 [batch, n_frames, n_mels] of waveforms [batch, n_samples]; see `log_mel`."""
        return log_mel(waveform, self.spec, self.transform)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_frames, n_mels)."""
        return (input_shape[0], *define(self.spec, input_shape[-1] or self.spec.n_samples).shape)

    def get_config(self) -> dict[str, Any]:
        """Config of the layer with the front-end as plain JSON values, and the transform."""
        return {**super().get_config(), "spec": self.spec.to_artifact(), "transform": self.transform}
