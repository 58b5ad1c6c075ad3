"""The FFT of exported front-ends: gathers and matrix products in float32, all of them TFLite builtins.

It has two stages (Cooley & Tukey 1965, https://doi.org/10.1090/S0025-5718-1965-0178586-1): n_fft = n1 * n2 with both
near its square root. Sums of 32 terms instead of 1024 have smaller rounding errors (which matters for a quiet band next
to a loud one), and two small matrices replace one of megabytes. With sample a * n2 + b and bin c + n1 * d: DFT over a,
twiddle factors, DFT over b; d goes up to n2 / 2 because the signal is real.

A float32 FFT still has an error of 1e-7 of the loudest bin, up to 0.01 dB in a band 80 dB lower and more in lower ones.
Front-ends that keep such bands use the same FFT on numbers in two parts (Ozaki et al. 2012, "Error-free transformations
of matrix multiplication by using fast routines of matrix multiplication and its applications", Numerical Algorithms 59,
https://doi.org/10.1007/s11075-011-9478-1): a coarse part of so few bits that sums of its products are exact in float32,
and a remainder, which is smaller by as many bits and has smaller rounding errors by the same factor. Constants have two
parts as well. As TFLite this takes four to five times as long: 20 ms for 6 s of audio on one core.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from birdnet_fs.frontend.definition import Definition

# powers of 2 to which a maximum is rounded up; frames with larger values are computed in plain float32
_LIMITS = (2.0 ** np.arange(-40, 21)).astype(np.float32)


def band_energies(waveform: Any, definition: Definition) -> Any:
    """Band energies by the portable FFT.

    Args:
        waveform: float32 tensor [batch, n_samples].
        definition: The front-end for n_samples.

    Returns:
        float32 tensor [batch, n_frames, n_mels].
    """
    re, im, scale = (_in_parts if definition.needs_extra_precision else _plain)(waveform, definition)
    n_fft, (n1, n2) = definition.spec.n_fft, _factors(definition.spec.n_fft)
    n_half = n2 // 2 + 1
    power = re * re + im * im
    if definition.spec.bands == "spectrum":  # the stages leave bin c + n1 * d in row c, column d
        power = ops.reshape(ops.transpose(ops.reshape(power, (-1, n1, n_half)), (0, 2, 1)), (-1, n1 * n_half))
        power = ops.multiply(power[:, : n_fft // 2 + 1], scale**2)
        return ops.reshape(power, (-1, definition.n_frames, n_fft // 2 + 1))
    power = ops.reshape(power, (-1, n1 * n_half))
    # the stages leave the bins in another order; the columns of the band matrix are permuted instead of the bins
    bins = (np.arange(n1)[:, None] + n1 * np.arange(n_half)[None, :]).ravel()
    bands = np.where(bins <= n_fft // 2, definition.bands[:, np.minimum(bins, n_fft // 2)], 0.0) * scale**2
    energies = ops.matmul(power, bands.T.astype(np.float32))
    return ops.reshape(energies, (-1, definition.n_frames, bands.shape[0]))


def _factors(n_fft: int) -> tuple[int, int]:
    n1 = max(n for n in range(1, int(n_fft**0.5) + 1) if n_fft % n == 0)
    return n1, n_fft // n1


def _matrices(n_fft: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """DFT over a [n1, 2 n1], cosine and sine of the twiddle factors [n2, n1], DFT over b [2 n2, 2 (n2 / 2 + 1)]."""
    n1, n2 = _factors(n_fft)
    over_a, turn, over_b = _angle(n1, n1, n1), _angle(n2, n1, n_fft), _angle(n2, n2 // 2 + 1, n2)
    first = np.concatenate([np.cos(over_a), -np.sin(over_a)], axis=1)
    cos, sin = np.cos(over_b), np.sin(over_b)
    return first, np.cos(turn), -np.sin(turn), np.block([[cos, -sin], [sin, cos]])


def _angle(rows: int, columns: int, period: int) -> np.ndarray:
    """2 pi row column / period, [rows, columns]; the product is reduced modulo the period first, which is exact."""
    return 2.0 * np.pi / period * (np.arange(rows)[:, None] * np.arange(columns)[None, :] % period)


def frames(x: Any, definition: Definition) -> Any:
    """Pad waveforms and gather their frames, in runs of gcd(n_fft, hop) samples.

    Args:
        x: Tensor [batch, n_samples].
        definition: The front-end.

    Returns:
        Tensor [batch * n_frames, n_fft].
    """
    n_fft, hop = definition.spec.n_fft, definition.spec.hop_length
    if definition.pad:
        x = ops.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=definition.spec.pad_mode)
    run = math.gcd(n_fft, hop)
    last = (definition.n_frames - 1) * hop + n_fft
    starts = np.arange(definition.n_frames)[:, None] * (hop // run) + np.arange(n_fft // run)[None, :]
    # the batch axis moves behind the runs and back: only a gather of rows becomes a valid ONNX graph
    runs = ops.transpose(ops.reshape(x[:, :last], (-1, last // run, run)), (1, 0, 2))
    runs = ops.take(ops.reshape(runs, (last // run, -1)), starts.astype(np.int32), axis=0)
    return ops.reshape(ops.transpose(ops.reshape(runs, (*starts.shape, -1, run)), (2, 0, 1, 3)), (-1, n_fft))


def _samples_of_b(x: Any, n1: int, n2: int) -> Any:
    """Reorder frames [n, n_fft] to [n * n2, n1]."""
    return ops.reshape(ops.transpose(ops.reshape(x, (-1, n1, n2)), (0, 2, 1)), (-1, n1))


def _bins_of_c(x: Any, n2: int) -> Any:
    """Reorder [n, 2 n2, n1] to [n * n1, 2 n2]."""
    return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, 2 * n2))


def windowed_frames(x: Any, definition: Definition) -> Any:
    """Frames times the window, after pre-emphasis, in float32.

    Args:
        x: float32 tensor [batch, n_samples].
        definition: The front-end.

    Returns:
        Tensor [batch * n_frames, n_fft].
    """
    if definition.spec.preemphasis:
        x = ops.concatenate([x[:, :1], x[:, 1:] - definition.spec.preemphasis * x[:, :-1]], axis=1)
    return ops.multiply(frames(x, definition), definition.window.astype(np.float32))


def _plain(x: Any, definition: Definition) -> tuple[Any, Any, float]:
    """Real and imaginary parts [batch * n_frames * n1, n2 / 2 + 1], and the factor by which they must be multiplied."""
    n1, n2 = _factors(definition.spec.n_fft)
    first, cos, sin, second = (ops.convert_to_tensor(m.astype(np.float32)) for m in _matrices(definition.spec.n_fft))
    x = _samples_of_b(windowed_frames(x, definition), n1, n2)
    x = ops.reshape(ops.matmul(x, first), (-1, n2, 2 * n1))
    re, im = x[:, :, :n1], x[:, :, n1:]
    x = ops.concatenate([re * cos - im * sin, re * sin + im * cos], axis=1)
    x = ops.matmul(_bins_of_c(x, n2), second)
    return x[:, : n2 // 2 + 1], x[:, n2 // 2 + 1 :], 1.0


class Parts(NamedTuple):
    """Numbers as the sum of a coarse part of few bits, which is exact, and the rest."""

    coarse: Any
    rest: Any


def windowed_frames_in_parts(x: Any, definition: Definition) -> tuple[Parts, Any, float]:
    """`windowed_frames` in two parts, whose sum has the digits of float64.

    Args:
        x: float32 tensor [batch, n_samples].
        definition: The front-end.

    Returns:
        The frames [batch * n_frames, n_fft]; a power of 2 that no magnitude of a frame exceeds, [batch * n_frames, 1];
        and the factor by which the frames must be multiplied.
    """
    spec, scale = definition.spec, float(definition.window.max())  # so that the constants are within +-1
    if spec.preemphasis:
        now = _parts(x, None, _limit(x, 1), _bits(2))
        before = _times(Parts(now.coarse[:, :-1], now.rest[:, :-1]), spec.preemphasis, _bits(2))
        exact = ops.concatenate([now.coarse[:, :1], now.coarse[:, 1:] - before.coarse], axis=1)
        rest = ops.concatenate([now.rest[:, :1], now.rest[:, 1:] - before.rest], axis=1)
        exact, rest = frames(exact, definition), frames(rest, definition)
    else:
        exact, rest = frames(x, definition), None
    limit = _limit(exact, 1)
    return _times(_parts(exact, rest, limit, _bits(1)), definition.window / scale, _bits(1)), limit, scale


def _in_parts(x: Any, definition: Definition) -> tuple[Any, Any, float]:
    """Result of `_plain`, computed with numbers in two parts up to the last sum."""
    spec, (n1, n2) = definition.spec, _factors(definition.spec.n_fft)
    first, cos, sin, second = _matrices(spec.n_fft)
    windowed, limit, scale = windowed_frames_in_parts(x, definition)
    windowed = _parts(*windowed, limit, _bits(n1))
    exact, rest = _product(Parts(*(_samples_of_b(part, n1, n2) for part in windowed)), first, _bits(n1))
    exact, rest = (ops.reshape(part, (-1, n2, 2 * n1)) for part in (exact, rest))
    limit = _limit(exact, (1, 2))
    both = _parts(exact, rest, limit, _bits(2))
    re, im = Parts(*(part[:, :, :n1] for part in both)), Parts(*(part[:, :, n1:] for part in both))
    re_cos, im_sin, re_sin, im_cos = (_times(v, c, _bits(2)) for v, c in ((re, cos), (im, sin), (re, sin), (im, cos)))
    exact, rest = (ops.concatenate([re_cos[i] - im_sin[i], re_sin[i] + im_cos[i]], axis=1) for i in (0, 1))
    turned = _parts(exact, rest, limit * 2.0, _bits(2 * n2))  # the twiddle factors enlarge a part by up to sqrt(2)
    exact, rest = _product(Parts(*(_bins_of_c(part, n2) for part in turned)), second, _bits(2 * n2))
    x = exact + rest
    return x[:, : n2 // 2 + 1], x[:, n2 // 2 + 1 :], scale


def _bits(n_terms: int) -> int:
    """Largest number of bits of two factors for which a sum of `n_terms` products fits into float32's 24 bits."""
    return (24 - math.ceil(math.log2(n_terms))) // 2


def _limit(x: Any, axis: int | tuple[int, ...]) -> Any:
    """Smallest power of 2 that no magnitude along `axis` exceeds."""
    largest = ops.max(ops.abs(x), axis=axis, keepdims=True)
    limits = ops.convert_to_tensor(_LIMITS)
    within = ops.where(ops.reshape(largest, (-1, 1)) <= limits, limits, 2.0**60)
    return ops.reshape(ops.min(within, axis=1), (-1, *largest.shape[1:]))


def _parts(exact: Any, rest: Any, limit: Any, bits: int) -> Parts:
    """Split numbers into a coarse part of `bits` bits below `limit`, and the rest."""
    coarse = ops.round(exact * (2.0**bits / limit)) * (limit * 2.0**-bits)
    left = exact - coarse
    return Parts(coarse, left if rest is None else left + rest)


def _constant(values: Any, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coarse = np.round(np.asarray(values) * 2.0**bits) / 2.0**bits
    return coarse.astype(np.float32), (values - coarse).astype(np.float32), np.asarray(values, np.float32)


def _times(x: Parts, values: Any, bits: int) -> Parts:
    coarse, rest, whole = _constant(values, bits)
    return Parts(ops.multiply(x.coarse, coarse), ops.add(ops.multiply(x.coarse, rest), ops.multiply(x.rest, whole)))


def _product(x: Parts, matrix: np.ndarray, bits: int) -> Parts:
    coarse, rest, whole = _constant(matrix, bits)
    both = ops.matmul(ops.concatenate(list(x), axis=1), np.concatenate([rest, whole]))
    return Parts(ops.matmul(x.coarse, coarse), both)
