"""Constants of a front-end (window, band matrix, resize weights) and its list of steps, for all executions.

All constants are computed in float64 with numpy alone (matrices.py). The steps after the band energies are functions of
an array namespace `ops` (`numpy`, `keras.ops`, or tensorflow functions under numpy's names), so that every execution
runs the same code.
"""

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.matrices import hann, linear_matrix, mel_matrix, resize_weights
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
        bands: float64 [n_mels, n_bins]; band energies are `bands @ power`. The identity with bands=spectrum.
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
            f"(n_fft {spec.n_fft}, pad_mode {spec.pad_mode!r}, min_clip_s {spec.min_clip_s:g}); pad it with zeros. "
            f"Received: {n_samples}"
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
        resize_frames = resize_weights(n_in, spec.resize[0], spec.resize_method)
        resize_bands = resize_weights(spec.n_mels, spec.resize[1], spec.resize_method)
        shape = spec.resize
    fit = [name for name, needed in (("keep", keep), ("resize", spec.resize != (0, 0))) if needed]
    normalize = ["normalise"] if spec.normalize != "none" else []
    steps = fit + normalize if spec.normalize_when == "last" else normalize + fit
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
        needs_extra_precision=spec.top_db == 0 or spec.compression == "pcen" or spec.normalize_when == "clip",
        shape=shape,
        steps=(*compress, *steps),
    )


def clip_frames(waveform: Any, definition: Definition, ops: Any) -> Any:
    """Mark the frames of the clip, where the samples of a segment that are exactly 0 at its end are padding.

    The frames of a clip of n samples (at least `spec.min_samples`) are those whose centers, the multiples of the hop,
    are at most n: the same as those of the clip alone, with the same energies.

    Args:
        waveform: [batch, n_samples].
        definition: The front-end.
        ops: Namespace with numpy's names: abs, max, pad, reshape, where, not_equal, greater_equal.

    Returns:
        float32 [batch, n_frames, 1], 1 for a frame of the clip and 0 for one of padding; None where the front-end
        does not distinguish them (`spec.normalize_when`).
    """
    spec, n_frames = definition.spec, definition.n_frames
    if spec.normalize_when != "clip":
        return None
    # block t holds the samples whose presence makes frame t the last one, t * hop - 1 up to (t + 1) * hop - 2
    missing = n_frames * spec.hop_length - 1 - definition.n_samples
    blocks = ops.reshape(ops.pad(waveform, ((0, 0), (1, missing))), (-1, n_frames, spec.hop_length))
    sounding = ops.not_equal(ops.max(ops.abs(blocks), axis=2), 0.0)
    numbers = np.arange(n_frames, dtype=np.int32)[None]  # integers: no converter rounds them to 16 bits
    last = ops.max(ops.where(sounding, numbers, np.int32(0)), axis=1, keepdims=True)
    own = ops.greater_equal(last, np.where(numbers <= spec.min_samples // spec.hop_length, np.int32(0), numbers))
    return ops.reshape(ops.where(own, np.float32(1.0), np.float32(0.0)), (-1, n_frames, 1))


def apply_steps(
    energies: Any, definition: Definition, ops: Any, steps: Mapping[str, Step] | None = None, own: Any = None
) -> Any:
    """Apply the steps that turn band energies into features.

    Args:
        energies: [batch, n_frames, n_mels], an array that `ops` works on; it may be overwritten.
        definition: The front-end.
        ops: Namespace with numpy's names: log, exp, maximum, multiply, max, min, mean, sqrt, where, clip, pad,
            matmul, reshape, transpose. log, exp, maximum, multiply and clip may write into their first argument.
        steps: Function of each step by name. Default: None, `STEPS`.
        own: float32 [batch, n_frames, 1], `clip_frames`. Default: None, all frames are those of the clip.

    Returns:
        Features [batch, *definition.shape].
    """
    if own is not None:
        energies = energies * own
    for step in definition.steps:
        if step == "normalise" and own is not None:
            energies = _normalize_clip(energies, own, definition, ops)
        else:
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


def _normalize_clip(x: Any, own: Any, definition: Definition, ops: Any) -> Any:
    """Normalize over the frames of the clip, which `own` marks; the others become 0.

    With all frames marked it is `_normalize`, to the last bit.
    """
    spec = definition.spec
    x = ops.where(
        own > 0, x, x[:, :1]
    )  # the first frame is always the clip's: minimum and maximum are those of the clip
    low = ops.min(x, axis=(1, 2), keepdims=True)
    if spec.normalize == "min_max":
        high = ops.max(x, axis=(1, 2), keepdims=True)
        return (x - low) / ops.maximum(high - low + spec.normalize_eps, TINY) * own
    share = ops.mean(own, axis=(1, 2), keepdims=True)
    centered = (x - low) * own
    centered = (centered - _mean(centered, ops) / share) * own
    deviation = ops.sqrt(_mean(centered * centered, ops) / share)
    return ops.where(deviation > spec.normalize_eps, centered / ops.maximum(deviation, TINY), x) * own


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


@functools.lru_cache(maxsize=64)
def _constants(spec: FrontEnd) -> tuple[np.ndarray, np.ndarray]:
    window = hann(spec.win_length, spec.n_fft)
    if spec.stft_scale == "window_power":
        window = window / math.sqrt((window**2).sum())
    size = (spec.sample_rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
    if spec.bands == "spectrum":
        bands = np.eye(spec.n_mels)
    else:
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
