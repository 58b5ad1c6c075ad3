"""Log-mel features inside a Keras network, on the torch and the tensorflow backend.

`transform="rfft"` uses the backend's FFT in float64 (training, prediction; the 1e-3 dB of the package hold);
`transform="dft"` uses gathers and matrix products in float32 only, so that every operation is a TFLite
builtin on every conversion route. In float32 the rounding of a loud band is heard in a quiet one: 80 dB
below by up to 0.01 dB, further down (panns, animal_spot, tilenet keep all) by up to the error named in
tests/tolerances.py. The numbers of the definition are constants of the graph, not weights: the layer adds
nothing to a run's weights, and the precision policy changes nothing in it.
"""

import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from birdnet_fs.frontend.definition import Definition, define, finish
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.settings import to_dict
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
    x = ops.cast(waveform, "float64" if transform == "rfft" else "float32")  # pre-emphasis takes digits as well
    if len(x.shape) not in (1, 2):
        raise UserError(f"A waveform must be [batch, n_samples] or [n_samples]. Received shape: {tuple(x.shape)}")
    definition = define(spec, x.shape[-1] or spec.n_samples)
    with _full_precision(x):
        x = ops.reshape(x, (-1, definition.n_samples))
        if spec.preemphasis:
            x = ops.concatenate([x[:, :1], x[:, 1:] - spec.preemphasis * x[:, :-1]], axis=1)
        if definition.pad:
            x = ops.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=spec.pad_mode)
        return finish((_dft if transform == "dft" else _rfft)(x, definition), definition, ops)


def _rfft(x: Any, definition: Definition) -> Any:
    """Energies [batch, n_frames, n_mels] by the backend's own FFT, in float64."""
    spec, (low, high) = definition.spec, definition.bins
    # torch.stft centres unless told not to; the padding is done already, as the definition says
    re, im = ops.stft(x, spec.n_fft, spec.hop_length, spec.n_fft, window=definition.window, center=False)
    power = ops.cast((re * re + im * im)[:, :, low:high], "float32")
    return ops.matmul(power, definition.bands[:, low:high].T.astype(np.float32))


def _dft(x: Any, definition: Definition) -> Any:
    """Energies [batch, n_frames, n_mels] by matrix products: an FFT of two stages (Cooley & Tukey 1965).

    n_fft = n1 * n2 with both near its root. Sums of 32 terms instead of 1024 round less (a quiet band beside a
    loud one keeps its digits), and two small matrices stand in for one of megabytes. Sample a * n2 + b and bin
    c + n1 * d: DFT over a, twiddle, DFT over b; d goes to n2 / 2 because the signal is real.
    """
    n_fft = definition.spec.n_fft
    n1 = max(n for n in range(1, int(n_fft**0.5) + 1) if n_fft % n == 0)
    n2, n_half = n_fft // n1, n_fft // n1 // 2 + 1
    over_a = _angle(n1, n1, n1)
    twiddle = _angle(n2, n1, n_fft)
    over_b = _angle(n2, n_half, n2)
    first = np.concatenate([np.cos(over_a), -np.sin(over_a)], axis=1)
    turn = [np.cos(twiddle)[None].astype(np.float32), -np.sin(twiddle)[None].astype(np.float32)]
    cos, sin = np.cos(over_b), np.sin(over_b)
    second = np.block([[cos, -sin], [sin, cos]])
    x = _frames(x, definition) * definition.window.astype(np.float32)
    x = ops.transpose(ops.reshape(x, (-1, n1, n2)), (0, 2, 1))
    x = ops.reshape(ops.matmul(ops.reshape(x, (-1, n1)), first.astype(np.float32)), (-1, n2, 2 * n1))
    re, im = x[:, :, :n1], x[:, :, n1:]
    x = ops.concatenate([re * turn[0] - im * turn[1], re * turn[1] + im * turn[0]], axis=1)
    x = ops.transpose(x, (0, 2, 1))
    x = ops.matmul(ops.reshape(x, (-1, 2 * n2)), second.astype(np.float32))
    re, im = x[:, :n_half], x[:, n_half:]
    power = ops.reshape(re * re + im * im, (-1, n1 * n_half))
    # the bins stay in the order the stages leave them in; the bands are put in that order instead
    bins = (np.arange(n1)[:, None] + n1 * np.arange(n_half)[None, :]).ravel()
    bands = np.where(bins <= n_fft // 2, definition.bands[:, np.minimum(bins, n_fft // 2)], 0.0)
    energies = ops.matmul(power, bands.T.astype(np.float32))
    return ops.reshape(energies, (-1, definition.n_frames, bands.shape[0]))


def _angle(rows: int, columns: int, period: int) -> np.ndarray:
    """2 pi row column / period, [rows, columns]; reduced before it is scaled, so that no digit is lost."""
    return 2.0 * np.pi / period * (np.arange(rows)[:, None] * np.arange(columns)[None, :] % period)


def _frames(x: Any, definition: Definition) -> Any:
    """[batch, n_samples] -> [batch, n_frames, n_fft], gathered in runs as long as n_fft and hop_length share."""
    n_fft, hop = definition.spec.n_fft, definition.spec.hop_length
    run = math.gcd(n_fft, hop)
    last = (definition.n_frames - 1) * hop + n_fft
    starts = np.arange(definition.n_frames)[:, None] * (hop // run) + np.arange(n_fft // run)[None, :]
    runs = ops.reshape(x[:, :last], (-1, last // run, run))
    return ops.reshape(ops.take(runs, starts.astype(np.int32), axis=1), (-1, definition.n_frames, n_fft))


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
        return {**super().get_config(), "spec": to_dict(self.spec), "transform": self.transform}
