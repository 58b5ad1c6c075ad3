"""Log-mel features inside a Keras network, on the torch and the tensorflow backend.

`transform="rfft"` uses `ops.stft` (fast, in training on a GPU as well); `transform="dft"` uses one
convolution with cosines and sines, so that every operation is a TFLite builtin on every conversion
route. The numbers of the definition are constants of the graph, not weights: the layer adds nothing
to a run's weights, and it works in float32 whatever the precision policy. In float32 the presets
without a limit below the maximum (panns, animal_spot, tilenet) lose up to the error named in
tests/tolerances.py in bands far below a loud one.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from birdnet_fs import schema
from birdnet_fs.frontend.definition import Definition, define, finish
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.schema import FrontEnd

Transform = Literal["rfft", "dft"]


def log_mel(waveform: Any, spec: FrontEnd, transform: Transform = "rfft") -> Any:
    """Log-mel features as a tensor of the running backend.

    Args:
        waveform: Floats in +-1, [batch, n_samples] or [n_samples], at `spec.sample_rate_hz`. n_samples must be
            known when the graph is built; where it is not, `spec.n_samples` is taken.
        spec: The front-end.
        transform: "rfft", or "dft" for convolution and matrix products only.

    Returns:
        float32 [batch, n_frames, n_mels]; NaN in a segment gives NaN in that segment's features.

    Raises:
        UserError: Wrong shape, or too short for one frame.
    """
    x = ops.cast(waveform, "float32")
    if len(x.shape) not in (1, 2):
        raise UserError(f"A waveform must be [batch, n_samples] or [n_samples]. Received shape: {tuple(x.shape)}")
    definition = define(spec, x.shape[-1] or spec.n_samples)
    with _full_precision(x):
        x = ops.reshape(x, (-1, definition.n_samples))
        if spec.preemphasis:
            x = ops.concatenate([x[:, :1], x[:, 1:] - spec.preemphasis * x[:, :-1]], axis=1)
        if definition.pad:
            x = ops.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=spec.pad_mode)
        re, im = (_dft if transform == "dft" else _rfft)(x, definition)
        low, high = definition.bins
        bands = definition.bands[:, low:high].T.astype(np.float32)
        return finish(ops.matmul(re * re + im * im, bands), definition, ops)


def _rfft(x: Any, definition: Definition) -> tuple[Any, Any]:
    spec, (low, high) = definition.spec, definition.bins
    window = definition.window.astype(np.float32)
    # torch.stft centres unless told not to; the padding is done already, as the definition says
    re, im = ops.stft(x, spec.n_fft, spec.hop_length, spec.n_fft, window=window, center=False)
    return re[:, :, low:high], im[:, :, low:high]


def _dft(x: Any, definition: Definition) -> tuple[Any, Any]:
    """Only the bins that a band uses."""
    spec, (low, high) = definition.spec, definition.bins
    # reshaped statically: x[..., None] on an unknown batch needs an operation outside TFLite's builtins
    x = ops.reshape(x, (-1, definition.n_samples + 2 * definition.pad, 1))
    phase = np.arange(spec.n_fft)[:, None] * np.arange(low, high)[None, :] % spec.n_fft
    angle = 2.0 * np.pi / spec.n_fft * phase
    kernel = np.concatenate([np.cos(angle), -np.sin(angle)], axis=1) * definition.window[:, None]
    kernel = kernel[:, None, :].astype(np.float32)
    both = ops.conv(x, kernel, strides=spec.hop_length, padding="valid", data_format="channels_last")
    return both[:, :, : high - low], both[:, :, high - low :]


@contextlib.contextmanager
def _full_precision(x: Any) -> Iterator[None]:
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
        transform: "rfft", or "dft" for convolution and matrix products only.
    """

    def __init__(self, spec: FrontEnd | Mapping[str, Any], transform: Transform = "rfft", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32", "trainable": False})
        if transform not in ("rfft", "dft"):
            raise UserError(f"transform must be 'rfft' or 'dft'. Received: {transform!r}")
        self.spec = spec if isinstance(spec, FrontEnd) else FrontEnd.from_dict(spec)
        self.transform: Transform = transform

    def call(self, waveform: Any) -> Any:
        """See `log_mel`."""
        return log_mel(waveform, self.spec, self.transform)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_frames, n_mels)."""
        return (input_shape[0], *define(self.spec, input_shape[-1] or self.spec.n_samples).shape)

    def get_config(self) -> dict[str, Any]:
        """The spec as plain JSON values, and the transform."""
        return {**super().get_config(), "spec": schema.to_dict(self.spec), "transform": self.transform}
