"""Log-mel features on the CPU with numpy arrays: the fast execution, and a float64 reference.

`log_mel` is used by loaders and prediction. Band energies, logarithm, PCEN and resize are loops compiled by numba
(kernels.py); other steps are those of `definition`. `benchmarks/frontend.py` compares its speed with librosa's.
Everything runs on the calling thread: FFTs and matrix products with a thread pool (MKL, OpenBLAS) are a little faster
on an idle machine and ten times slower on a busy one. Use one process or thread per core; the loops release the GIL.
`log_mel_reference` computes the same in plain numpy float64, for checks.
"""

import functools
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.definition import STEPS, Definition, apply_steps, clip_frames, define
from birdnet_fs.schema import FrontEnd

# Bands below this share of the energy of their frame (times the band's largest weight) are computed in float64. At the
# limit the rounding errors of a float32 FFT are 6e-5 dB (root mean square). They are not evenly spread: those of a loud
# tone repeat with it and add up in a few bins, to 7e-4 dB in the largest of a million bands of real recordings, and to
# 1.5e-3 dB for tones near the Nyquist frequency. Errors fall with the root of the limit: 2.4e-4 would halve them, and
# take a fifth longer on real recordings.
BLUR = 6e-5
TINIEST = float(np.finfo(np.float32).tiny)  # smallest power of which the logarithm is computed


def log_mel(waveform: np.ndarray, spec: FrontEnd) -> np.ndarray:
    """Log-mel features of one segment or a batch of them.

    The result of a segment is the same to the last bit whatever else is in the batch. In a float32 FFT the rounding
    errors of a loud band show in quiet ones (0.004 dB in a band 80 dB lower, 0.03 dB further down, on real
    recordings). Frames with such bands are computed again in float64, about a fifth of real ones at top_db 80;
    front-ends without top_db (panns, animal_spot, tilenet) and with PCEN are in float64 throughout. Everything after
    the power spectrum is in float32.

    Args:
        waveform: float32 or float64 in +-1, or int16, [batch, n_samples] or [n_samples], at `spec.sample_rate_hz`.
            n_samples is arbitrary from one frame on; nothing is cropped or padded to `spec.segment_s`.
        spec: The front-end.

    Returns:
        float32 [batch, n_frames, n_mels], with batch 1 for [n_samples]; (n_frames, n_mels) is `spec.shape` for
        waveforms of `spec.n_samples`.

    Raises:
        UserError: The waveform has a wrong type or shape, holds NaN or infinite samples, or is too short for one frame.

    >>> from birdnet_fs.frontend import preset
    >>> log_mel(np.zeros(160_000, np.float32), preset("panns")).shape
    (1, 501, 64)
    """
    from birdnet_fs.frontend.kernels import kernels

    waveform = as_waveform(waveform)
    definition = define(spec, waveform.shape[1])
    features = np.empty((len(waveform), *definition.shape), np.float32)
    energies = np.empty((definition.n_frames, spec.n_mels), np.float32)
    for segment, out in zip(waveform, features, strict=True):
        segment = np.ascontiguousarray(segment)
        if not kernels().finite(segment):
            _raise_for_non_finite(waveform)
        own = clip_frames(segment[None], definition, np)
        _energies(segment, definition, energies, definition.n_frames if own is None else int(own.sum()))
        out[:] = apply_steps(energies[None], definition, _IN_PLACE, _FAST_STEPS, own)[0]
    return features


def network_input(features: np.ndarray, spec: FrontEnd) -> np.ndarray:
    """Add the channel axis that networks expect.

    Args:
        features: [..., n_frames, n_mels].
        spec: The front-end, for its `n_channels`.

    Returns:
        [..., n_frames, n_mels, n_channels]; all channels are equal.
    """
    return np.repeat(features[..., None], spec.n_channels, axis=-1)


def log_mel_reference(waveform: np.ndarray, spec: FrontEnd) -> np.ndarray:
    """Log-mel features in plain numpy float64; slow, for checks of `log_mel`.

    Args:
        waveform: float32 or float64 in ±1, or int16, [batch, n_samples] or [n_samples], at `spec.sample_rate_hz`;
            n_samples is arbitrary from one frame on.
        spec: The front-end.

    Returns:
        float64 [batch, n_frames, n_mels].

    Raises:
        UserError: The waveform has a wrong type or shape, holds NaN or infinite samples, or is too short for one frame.
    """
    x = as_waveform(waveform).astype(np.float64)
    if not np.isfinite(x).all():
        _raise_for_non_finite(x)
    definition = define(spec, x.shape[1])
    own = clip_frames(x, definition, np)
    if spec.preemphasis:
        x = np.concatenate([x[:, :1], x[:, 1:] - spec.preemphasis * x[:, :-1]], axis=1)
    if spec.pad_mode != "none":
        x = np.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=spec.pad_mode)
    frames = np.lib.stride_tricks.sliding_window_view(x, spec.n_fft, axis=1)[:, :: spec.hop_length]
    power = np.abs(np.fft.rfft(frames * definition.window)) ** 2
    return apply_steps(power @ definition.bands.T, definition, np, own=own)


def as_waveform(waveform: Any) -> np.ndarray:
    """Check a waveform, and add the batch axis.

    Args:
        waveform: float32 or float64, or int16, [batch, n_samples] or [n_samples].

    Returns:
        float32 or float64 [batch, n_samples]; int16 is divided by 32768.

    Raises:
        UserError: The type is none of the three, there are not one or two axes, or there are no samples.
    """
    x = np.asarray(waveform)
    if x.dtype not in (np.float32, np.float64, np.int16):
        raise UserError(f"A waveform must be float32 or float64 in +-1, or int16. Received: {x.dtype}")
    if x.ndim not in (1, 2) or not x.shape[-1]:
        raise UserError(f"A waveform must be [batch, n_samples] or [n_samples]. Received shape: {x.shape}")
    x = np.atleast_2d(x)
    if x.dtype == np.int16:
        return x.astype(np.float32) / np.float32(32_768.0)
    return x


def _raise_for_non_finite(waveform: np.ndarray) -> None:
    """Raise a UserError that names the first sample that is NaN or infinite."""
    row, column = np.argwhere(~np.isfinite(waveform))[0]
    raise UserError(
        f"A waveform must hold finite samples only. Received: sample {column} of segment {row} is "
        f"{waveform[row, column]}; leave the recording out, or set such samples to 0"
    )


class _Banded(NamedTuple):
    """A matrix with one non-zero range per row: columns begin[m] to end[m] of row m are weights[offset[m]:]."""

    begin: np.ndarray
    end: np.ndarray
    offset: np.ndarray
    weights: np.ndarray


def _banded(matrix: np.ndarray) -> _Banded:
    used = matrix != 0
    empty = ~used.any(axis=1)
    begin = np.where(empty, int(used.any(axis=0).argmax()), used.argmax(axis=1))
    end = np.where(empty, begin, used.shape[1] - used[:, ::-1].argmax(axis=1))
    rows = [row[a:b] for row, a, b in zip(matrix, begin, end, strict=True)]
    return _Banded(begin, end, np.concatenate([[0], np.cumsum(end - begin)]), np.concatenate(rows).astype(np.float32))


@functools.lru_cache(maxsize=64)
def _numbers(spec: FrontEnd, dtype: str) -> tuple[np.ndarray, ...]:
    """Arguments of `energy_loop` in one precision: window, FFT plan, bands of 4 |bin| ** 2, 1 / largest weights."""
    from birdnet_fs.frontend.energy_kernel import fft_plan

    definition = define(spec, spec.n_samples)
    with np.errstate(divide="ignore"):
        share = (1.0 / definition.bands.max(axis=1)).astype(np.float32)
    return definition.window.astype(dtype), *fft_plan(spec.n_fft, dtype), *_banded(definition.bands / 4.0), share


@functools.lru_cache(maxsize=64)
def _resize_weights(definition: Definition) -> list[_Banded | None]:
    both = (definition.resize_frames, definition.resize_bands)
    return [None if matrix is None else _banded(matrix) for matrix in both]


def _energies(waveform: np.ndarray, definition: Definition, out: np.ndarray, n_frames: int) -> None:
    """Write the band energies of a waveform [n_samples] to `out` [..., n_mels]; 0 from frame `n_frames` on."""
    spec = definition.spec
    if spec.preemphasis:
        waveform = waveform.astype(np.float64)
        waveform = np.concatenate([waveform[:1], waveform[1:] - spec.preemphasis * waveform[:-1]])
    every = np.arange(n_frames)
    out[n_frames:] = 0
    if definition.needs_extra_precision:
        _transform(waveform, every, definition, "float64", out)
    else:
        least, energy = _transform(waveform, every, definition, "float32", out)
        again = _blurred(out, least, energy, definition)
        if len(again):
            _transform(waveform, again, definition, "float64", out)


def _blurred(out: np.ndarray, least: np.ndarray, energy: np.ndarray, definition: Definition) -> np.ndarray:
    """Indices of the frames with a band that a float32 FFT makes inaccurate and that `top_db` does not cut off."""
    spec = definition.spec
    suspect = np.flatnonzero(least < BLUR * energy)
    if not len(suspect):
        return suspect
    floor = max(spec.amin, float(out.max()) * 10.0 ** (-spec.top_db / 10.0)) * 0.99
    limit = BLUR * energy[suspect, None] / _numbers(spec, "float32")[-1]
    rows = out[suspect]
    return suspect[((rows < limit) & (limit > floor) & (rows > 0.5 * floor)).any(axis=1)]


def _transform(
    waveform: np.ndarray, indices: np.ndarray, definition: Definition, dtype: str, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Write the band energies of the frames `indices` to their rows of `out`, with an FFT in `dtype`.

    Returns `least` and `energy` [n_frames] of these frames, see `energy_loop`.
    """
    from birdnet_fs.frontend.energy_kernel import LANES
    from birdnet_fs.frontend.kernels import kernels

    spec = definition.spec
    waveform = waveform.astype(dtype, copy=False)
    least, energy = np.zeros((2, len(out)), np.float32)
    kernels().energies(
        waveform, indices, definition.pad, spec.pad_mode == "reflect", spec.hop_length, LANES,
        *_numbers(spec, dtype), out, energy, least,
    )  # fmt: skip
    return least, energy


def _compress(x: np.ndarray, definition: Definition, ops: Any) -> np.ndarray:
    """The step of `definition` for one segment in a single pass: the limit below the maximum applies to the power."""
    from birdnet_fs.frontend.kernels import kernels

    spec = definition.spec
    floor = max(spec.amin, TINIEST)
    if spec.top_db:
        floor = max(floor, float(x.max()) * 10.0 ** (-spec.top_db / 10.0))
    kernels().log(x.reshape(-1), floor, 10.0 / np.log(10.0) if spec.compression == "db" else 1.0)
    return x - x.max() if spec.ref == "max" else x


def _pcen(x: np.ndarray, definition: Definition, ops: Any) -> np.ndarray:
    """The step of `definition` for one segment, with the running mean frame by frame."""
    from birdnet_fs.frontend.kernels import kernels

    spec, smooth = definition.spec, definition.smoother
    x *= spec.pcen_scale
    before = np.ones_like(x[0, 0]) if spec.pcen_start == "one" else x[0, 0].copy()
    level = np.empty_like(x)
    kernels().running_mean(x[0], smooth.rate, spec.pcen_eps, before, level[0])
    kernels().log(level.reshape(-1), TINIEST, -spec.pcen_gain)
    kernels().exp(level.reshape(-1))
    x *= level
    if spec.pcen_power == 0:
        x += 1.0
        kernels().log(x.reshape(-1), TINIEST, 1.0)
        return x
    x *= 1.0 / spec.pcen_bias
    x += 1.0
    kernels().log(x.reshape(-1), TINIEST, spec.pcen_power)
    kernels().exp(x.reshape(-1))
    x -= 1.0
    x *= spec.pcen_bias**spec.pcen_power
    return x


def _resize(x: np.ndarray, definition: Definition, ops: Any) -> np.ndarray:
    """The step of `definition` for one segment [1, n_frames, n_mels], without the zeros of the matrices."""
    from birdnet_fs.frontend.kernels import kernels

    low = x.min()
    x = x - low
    for matrix, axis in zip(_resize_weights(definition), (0, 1), strict=True):
        if matrix is not None:
            lines = np.ascontiguousarray(np.moveaxis(x[0], axis, 0))
            mixed = np.empty((len(matrix.begin), lines.shape[1]), lines.dtype)
            kernels().banded_matmul(lines, *matrix, mixed)
            x = np.moveaxis(mixed, 0, axis)[None]
    return x + low


_FAST_STEPS = {**STEPS, "compress": _compress, "pcen": _pcen, "resize": _resize}

# numpy functions that work in place where `apply_steps` allows it
_IN_PLACE = SimpleNamespace(
    log=lambda x: np.log(x, out=x),
    maximum=lambda x, y: np.maximum(x, y, out=x),
    multiply=lambda x, y: np.multiply(x, y, out=x),
    clip=lambda x, low, high: np.clip(x, low, high, out=x),
    max=np.max,
    min=np.min,
    mean=np.mean,
    sqrt=np.sqrt,
    where=np.where,
    pad=np.pad,
    reshape=np.reshape,
)
