"""What a front-end is: its window, band matrix, resize weights and list of steps, once for all executions.

All numbers are computed here in float64 with numpy alone. Sources: Slaney's Auditory Toolbox (1998)
and the HTK Book for the two mel scales, as librosa has them; half-pixel bilinear and Lanczos-5 weights
as `tf.image.resize(antialias=False)` has them. The steps after the band energies are functions over an
array namespace `ops` (`numpy`, `keras.ops`, or in_tf's names for tensorflow), so that every execution
runs these very lines.
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
TINY = 1e-12  # keeps a division by an empty range finite; every range that counts is above it


@dataclass(frozen=True, eq=False)
class Definition:
    """The numbers of one front-end for waveforms of one length. Matrices are float64.

    Attributes:
        spec: The front-end.
        n_samples: Length of the waveform.
        n_frames: STFT frames of that waveform.
        pad: Samples put before and after the waveform, in `spec.pad_mode`.
        window: [n_fft], scaled by `spec.stft_scale`.
        bands: [n_mels, n_bins]; energies of the bands are `bands @ power`.
        bins: First bin that a band uses, and one past the last: the rest need not be computed.
        keep: (first frame, one past the last, zero frames before, zero frames after), or None.
        resize_frames: [n_frames out, n_frames in], or None.
        resize_bands: [n_mels out, n_mels in], or None.
        smoother: The running mean of PCEN.
        keeps_all: There is no limit below the loudest band, so that float32 alone would lose digits of quiet ones.
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
    keeps_all: bool
    shape: tuple[int, int]
    steps: tuple[str, ...]


@functools.lru_cache(maxsize=256)
def define(spec: FrontEnd, n_samples: int) -> Definition:
    """The numbers of `spec` for waveforms of `n_samples`; the same object for the same question.

    Raises:
        UserError: The waveform is too short to give one frame.
    """
    if n_samples < spec.min_samples:
        raise UserError(
            f"A waveform must hold {spec.min_samples} samples or more for front-end {spec.preset!r} "
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
        keeps_all=spec.top_db == 0 or spec.compression == "pcen",
        shape=shape,
        steps=(*compress, *steps),
    )


def finish(energies: Any, definition: Definition, ops: Any, steps: Mapping[str, Step] | None = None) -> Any:
    """Band energies [batch, n_frames, n_mels] -> features [batch, *definition.shape], step by step.

    Args:
        energies: An array that `ops` works on.
        definition: What to do.
        ops: Namespace with numpy's names: log, exp, maximum, multiply, max, min, mean, sqrt, where, clip, pad,
            matmul, reshape, transpose. log, exp, maximum, multiply and clip may write into their first argument.
        steps: What each step does; None = `STEPS`.
    """
    for step in definition.steps:
        energies = (steps or STEPS)[step](energies, definition, ops)
    return energies


def _compress(x: Any, definition: Definition, ops: Any) -> Any:
    """Power -> dB (or natural log): floor, reference, limit below the segment's maximum."""
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
    centered = x - low  # a constant segment is then exactly 0, and so is its deviation
    centered = centered - _mean(centered, ops)
    deviation = ops.sqrt(_mean(centered * centered, ops))
    return ops.where(deviation > spec.normalize_eps, centered / ops.maximum(deviation, TINY), x)


def _mean(x: Any, ops: Any) -> Any:
    """Over a segment, in three stages: where 65,000 numbers are added one by one (TFLite), quiet ones get lost."""
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
    """Two matrix products, one along each axis; an axis whose length stays is left alone.

    Heights above the segment's minimum are resized: a silent segment then stays exactly constant,
    where rounding would be stretched to full range by min_max.
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
    """Periodic Hann window of `win_length`, centered in `n_fft` zeros, float64."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win_length) / win_length)
    before = (n_fft - win_length) // 2
    return np.pad(window, (before, n_fft - win_length - before))


def mel_matrix(
    sample_rate_hz: float, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float, *, htk: bool = False
) -> np.ndarray:
    """Triangular mel filters [n_mels, n_fft // 2 + 1], float64.

    Args:
        sample_rate_hz: Rate of the waveform.
        n_fft: Length of the FFT.
        n_mels: Number of filters.
        fmin_hz: Lower edge of the first filter.
        fmax_hz: Upper edge of the last filter.
        htk: False: Slaney's scale, every triangle of area 1 over Hz. True: the HTK scale, height 1.
    """
    edges_mel = np.linspace(_hz_to_mel(fmin_hz, htk), _hz_to_mel(fmax_hz, htk), n_mels + 2)
    edges = _mel_to_hz(edges_mel, htk)[:, None]
    frequency = np.arange(n_fft // 2 + 1) * sample_rate_hz / n_fft
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles if htk else triangles * 2.0 / (edges[2:] - edges[:-2])


# Slaney's scale: 200/3 Hz a mel below 1 kHz, then 27 mels for every factor of 6.4.
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
    """Bins floor(fmin).. ceil(fmax) (the last left out), the nearest for each of `n_bands`; as ANIMAL-SPOT."""
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
            f"frontend.fmin_hz..fmax_hz must hold at least one FFT bin ({spec.sample_rate_hz / spec.n_fft:g} Hz "
            f"apart). Received: {(spec.fmin_hz, spec.fmax_hz)}"
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
    """[n_out, n_in] weights of each output from the inputs; None where the length stays."""
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
