"""Constants of a front-end (window, band matrix, resize weights) and its list of steps, for all executions.

All constants are computed here in float64 with numpy alone. Sources: Slaney's Auditory Toolbox (1998) and the HTK Book
for the two mel scales, as in librosa; half-pixel bilinear and Lanczos-5 weights as in
`tf.image.resize(antialias=False)`. The steps after the band energies are functions of an array namespace `ops`
(`numpy`, `keras.ops`, or tensorflow functions under numpy's names), so that every execution runs the same code.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.pcen import Smoother, pcen, smoother
from birdnet_fs.schema import FrontEnd

Step = Callable[[Any, "Definition", Any], Any]
TINY = 1e-12  # keeps a division by a range of 0 finite; every other range is larger


@dataclass(frozen=True, eq=False)
class Definition:
    """Constants of one front-end for waveforms of one length.

    Attributes:
        spec: The front-end.
        n_samples: Length of the waveform.
        n_frames: Number of STFT frames of the waveform.
        pad: Number of samples padded before and after the waveform, in `spec.pad_mode`.
        window: float64 [n_fft], scaled by `spec.stft_scale`.
        bands: float64 [n_mels, n_bins]; band energies are `bands @ power`.
        bins: First FFT bin that a band uses, and one past the last: other bins need not be computed.
        kept_frames: (first frame, one past the last, zero frames before, zero frames after), or None for all frames.
        resize_frames: float64 [n_frames out, n_frames in], or None.
        resize_bands: float64 [n_mels out, n_mels in], or None.
        smoother: The running mean of PCEN.
        needs_extra_precision: Whether quiet bands are not limited relative to the loudest, so that a float32 FFT would
            lose their digits.
        shape: (n_frames, n_mels) of the features.
        steps: Names of the steps after the band energies, keys of `STEPS`.
    """

    spec: FrontEnd
    n_samples: int
    n_frames: int
    pad: int
    window: np.ndarray
    bands: np.ndarray
    bins: tuple[int, int]
    kept_frames: tuple[int, int, int, int] | None
    resize_frames: np.ndarray | None
    resize_bands: np.ndarray | None
    smoother: Smoother
    needs_extra_precision: bool
    shape: tuple[int, int]
    steps: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def define(spec: FrontEnd, n_samples: int) -> Definition:
    """Compute the constants of a front-end; results are cached.

    Args:
        spec: The front-end.
        n_samples: Length of the waveforms.

    Returns:
        The constants; the same object for the same arguments.

    Raises:
        UserError: The waveform is too short for one frame, or no FFT bin lies between `fmin_hz` and `fmax_hz`.
    """
    if n_samples < spec.min_samples:
        raise UserError(
            f"A waveform must have {spec.min_samples} samples or more for front-end {spec.preset!r} "
            f"(n_fft {spec.n_fft}, pad_mode {spec.pad_mode!r}). Received: {n_samples}"
        )
    window, bands = _constants(spec)
    used = np.flatnonzero(bands.any(axis=0))
    n_frames = n_in = spec.n_frames_of(n_samples)
    keep = None
    if spec.keep_frames and spec.keep_frames != n_in:
        keep, n_in = _kept_range(n_in, spec.keep_frames, spec.keep_from), spec.keep_frames
    resize_frames = resize_bands = None
    shape = (n_in, spec.n_mels)
    if spec.resize != (0, 0):
        resize_frames = _resize_weights(n_in, spec.resize[0], spec.resize_method)
        resize_bands = _resize_weights(spec.n_mels, spec.resize[1], spec.resize_method)
        shape = spec.resize
    fit = [name for name, needed in (("keep", keep), ("resize", spec.resize != (0, 0))) if needed]
    normalize = ["normalise"] if spec.normalize != "none" else []
    steps = normalize + fit if spec.normalize_when == "first" else fit + normalize
    compress = {"db": ["compress"], "log": ["compress"], "pcen": ["pcen"], "none": []}[spec.compression]
    return Definition(
        spec=spec,
        n_samples=n_samples,
        n_frames=n_frames,
        pad=0 if spec.pad_mode == "none" else spec.n_fft // 2,
        window=window,
        bands=bands,
        bins=(int(used[0]), int(used[-1]) + 1),
        kept_frames=keep,
        resize_frames=resize_frames,
        resize_bands=resize_bands,
        smoother=smoother(spec, n_frames),
        needs_extra_precision=spec.top_db == 0 or spec.compression == "pcen",
        shape=shape,
        steps=(*compress, *steps),
    )


def apply_steps(energies: Any, definition: Definition, ops: Any, steps: Mapping[str, Step] | None = None) -> Any:
    """Apply the steps that turn band energies into features.

    Args:
        energies: [batch, n_frames, n_mels], an array that `ops` works on; it may be overwritten.
        definition: The front-end.
        ops: Namespace with numpy's names: log, exp, maximum, multiply, max, min, mean, sqrt, where, clip, pad,
            matmul, reshape, transpose. log, exp, maximum, multiply and clip may write into their first argument.
        steps: Function of each step by name. Default: None, `STEPS`.

    Returns:
        Features [batch, *definition.shape].
    """
    for step in definition.steps:
        energies = (steps or STEPS)[step](energies, definition, ops)
    return energies


def _compress(x: Any, definition: Definition, ops: Any) -> Any:
    """Power to dB (or natural logarithm), with floor, reference and limit below the segment's maximum."""
    spec = definition.spec
    decibel = spec.compression == "db"
    x = ops.log(ops.maximum(x, spec.amin))
    x = ops.multiply(x, 10.0 / math.log(10.0)) if decibel else x
    if spec.ref == "one" and not spec.top_db:
        return x
    peak = ops.max(x, axis=(1, 2), keepdims=True)
    if spec.top_db:
        x = ops.maximum(x, peak - (spec.top_db if decibel else spec.top_db * math.log(10.0) / 10.0))
    return x - peak if spec.ref == "max" else x


def _pcen(x: Any, definition: Definition, ops: Any) -> Any:
    return pcen(x, definition.spec, definition.smoother, ops)


def _normalize(x: Any, definition: Definition, ops: Any) -> Any:
    spec = definition.spec
    if spec.normalize == "db_range":
        return ops.clip(ops.multiply(x + 80.0, 0.01), 0.0, 1.0)
    low = ops.min(x, axis=(1, 2), keepdims=True)
    if spec.normalize == "min_max":
        high = ops.max(x, axis=(1, 2), keepdims=True)
        return (x - low) / ops.maximum(high - low + spec.normalize_eps, TINY)
    centered = x - low  # exactly 0 for a constant segment, and so is its deviation
    centered = centered - _mean(centered, ops)
    deviation = ops.sqrt(_mean(centered * centered, ops))
    return ops.where(deviation > spec.normalize_eps, centered / ops.maximum(deviation, TINY), x)


def _mean(x: Any, ops: Any) -> Any:
    """Mean of a segment in three stages: a plain float32 sum of 65,000 numbers (TFLite) loses the small ones."""
    n = int(x.shape[1]) * int(x.shape[2])
    side = math.ceil(n ** (1 / 3))
    x = ops.pad(ops.reshape(x, (-1, n)), ((0, 0), (0, side**3 - n)))
    for _ in range(3):
        x = ops.mean(ops.reshape(x, (-1, side)), axis=1)
    return ops.multiply(ops.reshape(x, (-1, 1, 1)), side**3 / n)


def _keep_frames(x: Any, definition: Definition, ops: Any) -> Any:
    start, stop, before, after = definition.kept_frames or (0, definition.n_frames, 0, 0)
    x = x[:, start:stop]
    return ops.pad(x, ((0, 0), (before, after), (0, 0))) if before or after else x


def _resize(x: Any, definition: Definition, ops: Any) -> Any:
    """Resize by one matrix product along each axis whose length changes.

    The segment's minimum is subtracted before and added after, so that a silent segment stays exactly constant; min_max
    would stretch rounding errors to the full range.
    """
    low = ops.min(x, axis=(1, 2), keepdims=True)
    x = x - low
    if definition.resize_frames is not None:
        x = ops.matmul(definition.resize_frames.astype(np.float32), x)
    if definition.resize_bands is not None:
        x = ops.matmul(x, definition.resize_bands.T.astype(np.float32))
    return x + low


STEPS: dict[str, Step] = {
    "compress": _compress,
    "pcen": _pcen,
    "normalise": _normalize,
    "keep": _keep_frames,
    "resize": _resize,
}


def hann(win_length: int, n_fft: int) -> np.ndarray:
    """Periodic Hann window of `win_length` samples, zero-padded on both sides; float64 [n_fft]."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win_length) / win_length)
    before = (n_fft - win_length) // 2
    return np.pad(window, (before, n_fft - win_length - before))


def mel_matrix(
    sample_rate_hz: float, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float, *, htk: bool = False
) -> np.ndarray:
    """Matrix of triangular mel filters.

    Args:
        sample_rate_hz: Sample rate of the waveform.
        n_fft: Length of the FFT.
        n_mels: Number of filters.
        fmin_hz: Lower edge of the first filter.
        fmax_hz: Upper edge of the last filter.
        htk: False for Slaney's scale with triangles of area 1 (over Hz), True for the HTK scale with triangles of
            height 1. Default: False.

    Returns:
        float64 [n_mels, n_fft // 2 + 1].
    """
    edges_mel = np.linspace(_hz_to_mel(fmin_hz, htk), _hz_to_mel(fmax_hz, htk), n_mels + 2)
    edges = _mel_to_hz(edges_mel, htk)[:, None]
    frequency = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles if htk else triangles * 2.0 / (edges[2:] - edges[:-2])


# Slaney's scale: 200/3 Hz per mel below 1 kHz, then 27 mels for every factor of 6.4.
_HZ_PER_MEL, _KNEE_HZ, _LOG_STEP = 200.0 / 3.0, 1000.0, math.log(6.4) / 27.0


def _hz_to_mel(hz: float, htk: bool) -> float:
    if htk:
        return 2595.0 * math.log10(1.0 + hz / 700.0)
    return hz / _HZ_PER_MEL if hz < _KNEE_HZ else _KNEE_HZ / _HZ_PER_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: np.ndarray, htk: bool) -> np.ndarray:
    if htk:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    knee = _KNEE_HZ / _HZ_PER_MEL
    return np.where(mel < knee, mel * _HZ_PER_MEL, _KNEE_HZ * np.exp(_LOG_STEP * (mel - knee)))


def linear_matrix(sample_rate_hz: float, n_fft: int, n_bands: int, fmin_hz: float, fmax_hz: float) -> np.ndarray:
    """Matrix that selects one FFT bin for each band, equally spaced in frequency, as in ANIMAL-SPOT.

    The bins from floor(fmin) to ceil(fmax), without the last, are resized to `n_bands` by nearest neighbor.

    Args:
        sample_rate_hz: Sample rate of the waveform.
        n_fft: Length of the FFT.
        n_bands: Number of bands.
        fmin_hz: Lowest frequency.
        fmax_hz: Highest frequency.

    Returns:
        float64 [n_bands, n_fft // 2 + 1], one 1 in each row.
    """
    first = math.floor(n_fft * fmin_hz / sample_rate_hz)
    n_bins = math.ceil(n_fft * fmax_hz / sample_rate_hz) - first
    matrix = np.zeros((n_bands, n_fft // 2 + 1))
    nearest = np.arange(n_bands) * n_bins // n_bands
    matrix[np.arange(n_bands), first + nearest] = 1.0
    return matrix


@functools.lru_cache(maxsize=64)
def _constants(spec: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    window = hann(spec.win_length, spec.n_fft)
    if spec.stft_scale == "window_power":
        window = window / math.sqrt((window**2).sum())
    size = (spec.sample_rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
    bands = linear_matrix(*size) if spec.bands == "linear" else mel_matrix(*size, htk=spec.bands == "mel_htk")
    if not bands.any():
        raise UserError(
            "frontend.fmin_hz to frontend.fmax_hz must contain at least one FFT bin; bins are "
            f"{spec.sample_rate_hz / spec.n_fft:g} Hz apart. Received: {(spec.fmin_hz, spec.fmax_hz)}"
        )
    window.flags.writeable = bands.flags.writeable = False
    return window, bands


def _kept_range(n_in: int, n_out: int, side: str) -> tuple[int, int, int, int]:
    start = max(0, n_in - n_out) // 2 if side == "center" else 0
    missing = max(0, n_out - n_in)
    before = missing // 2 if side == "center" else 0
    return start, start + min(n_in, n_out), before, missing - before


@functools.lru_cache(maxsize=64)
def _resize_weights(n_in: int, n_out: int, method: str) -> np.ndarray | None:
    """Weights of each output as a float64 matrix [n_out, n_in]; None where the length does not change."""
    if n_in == n_out:
        return None
    radius = 5.0 if method == "lanczos5" else 1.0
    center = (np.arange(n_out) + 0.5)[:, None] * n_in / n_out
    tap = np.arange(n_in)[None, :]
    reach = (tap >= np.ceil(center - radius - 0.5)) & (tap <= np.floor(center + radius - 0.5))
    x = tap + 0.5 - center
    weights = np.where(reach, _lanczos(x, radius) if method == "lanczos5" else np.maximum(0.0, 1.0 - abs(x)), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    weights.flags.writeable = False
    return weights


def _lanczos(x: np.ndarray, radius: float) -> np.ndarray:
    near = np.where(abs(x) <= 1e-3, 1.0, x)
    kernel = radius * np.sin(np.pi * near) * np.sin(np.pi * near / radius) / (np.pi * near) ** 2
    return np.where(abs(x) <= 1e-3, 1.0, np.where(abs(x) > radius, 0.0, kernel))
