"""The FFT of exported front-ends: gathers and matrix products in float32, so that every operation is a TFLite builtin.

An FFT of two stages (Cooley & Tukey 1965, https://doi.org/10.1090/S0025-5718-1965-0178586-1): n_fft = n1 * n2 with both
near its root. Sums of 32 terms instead of 1024 round less (a quiet band beside a loud one keeps its digits), and two
small matrices stand in for one of megabytes. Sample a * n2 + b and bin c + n1 * d: DFT over a, twiddle, DFT over b; d
goes to n2 / 2 because the signal is real.

Still, float32 rounds to 1e-7 of the loudest bin, which is up to 0.01 dB of a band 80 dB below, more of what is further
down. Front-ends that keep that too get the same FFT on numbers in two parts (Ozaki et al. 2012, "Error-free
transformations of matrix multiplication by using fast routines of matrix multiplication and its applications",
Numerical Algorithms 59, https://doi.org/10.1007/s11075-011-9478-1): a coarse part of so few bits that its products and
their sums are exact in float32, and a rest, which is smaller by as many bits, and so is its rounding. Constants have
two parts as well. As TFLite it takes four to five times as long: 20 ms for 6 s of sound on one core.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from birdnet_fs.frontend.definition import Definition

# powers of 2 that a largest value is rounded up to; a frame beyond them keeps plain float32
_LIMITS = (2.0 ** np.arange(-40, 21)).astype(np.float32)


def band_energies(waveform: Any, definition: Definition) -> Any:
    """Band energies [batch, n_frames, n_mels] of waveforms float32 [batch, n_samples]."""
    re, im, scale = (_in_parts if definition.keeps_all else _plain)(waveform, definition)
    n_fft, (n1, n2) = definition.spec.n_fft, _factors(definition.spec.n_fft)
    n_half = n2 // 2 + 1
    power = ops.reshape(re * re + im * im, (-1, n1 * n_half))
    # the bins stay in the order the stages leave them in; the bands are put in that order instead
    bins = (np.arange(n1)[:, None] + n1 * np.arange(n_half)[None, :]).ravel()
    bands = np.where(bins <= n_fft // 2, definition.bands[:, np.minimum(bins, n_fft // 2)], 0.0) * scale**2
    energies = ops.matmul(power, bands.T.astype(np.float32))
    return ops.reshape(energies, (-1, definition.n_frames, bands.shape[0]))


def _factors(n_fft: int) -> tuple[int, int]:
    n1 = max(n for n in range(1, int(n_fft**0.5) + 1) if n_fft % n == 0)
    return n1, n_fft // n1


def _matrices(n_fft: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """DFT over a [n1, 2 n1], cosine and sine of the twiddle [n2, n1], DFT over b [2 n2, 2 (n2 / 2 + 1)]."""
    n1, n2 = _factors(n_fft)
    over_a, turn, over_b = _angle(n1, n1, n1), _angle(n2, n1, n_fft), _angle(n2, n2 // 2 + 1, n2)
    first = np.concatenate([np.cos(over_a), -np.sin(over_a)], axis=1)
    cos, sin = np.cos(over_b), np.sin(over_b)
    return first, np.cos(turn), -np.sin(turn), np.block([[cos, -sin], [sin, cos]])


def _angle(rows: int, columns: int, period: int) -> np.ndarray:
    """2 pi row column / period, [rows, columns]; reduced before it is scaled, so that no digit is lost."""
    return 2.0 * np.pi / period * (np.arange(rows)[:, None] * np.arange(columns)[None, :] % period)


def _frames(x: Any, definition: Definition) -> Any:
    """[batch, n_samples] -> [batch * n_frames, n_fft], padded, gathered in runs as long as n_fft and hop share."""
    n_fft, hop = definition.spec.n_fft, definition.spec.hop_length
    if definition.pad:
        x = ops.pad(x, ((0, 0), (definition.pad, definition.pad)), mode=definition.spec.pad_mode)
    run = math.gcd(n_fft, hop)
    last = (definition.n_frames - 1) * hop + n_fft
    starts = np.arange(definition.n_frames)[:, None] * (hop // run) + np.arange(n_fft // run)[None, :]
    # the batch moves behind the runs and back: Keras' gather of rows is the one that becomes a valid ONNX graph
    runs = ops.transpose(ops.reshape(x[:, :last], (-1, last // run, run)), (1, 0, 2))
    runs = ops.take(ops.reshape(runs, (last // run, -1)), starts.astype(np.int32), axis=0)
    return ops.reshape(ops.transpose(ops.reshape(runs, (*starts.shape, -1, run)), (2, 0, 1, 3)), (-1, n_fft))


def _samples_of_b(x: Any, n1: int, n2: int) -> Any:
    """[n, n_fft] -> [n * n2, n1]."""
    return ops.reshape(ops.transpose(ops.reshape(x, (-1, n1, n2)), (0, 2, 1)), (-1, n1))


def _bins_of_c(x: Any, n2: int) -> Any:
    """[n, 2 n2, n1] -> [n * n1, 2 n2]."""
    return ops.reshape(ops.transpose(x, (0, 2, 1)), (-1, 2 * n2))


def _plain(x: Any, definition: Definition) -> tuple[Any, Any, float]:
    """Real and imaginary parts [batch * n_frames * n1, n2 / 2 + 1], and what they were divided by."""
    n1, n2 = _factors(definition.spec.n_fft)
    first, cos, sin, second = (ops.convert_to_tensor(m.astype(np.float32)) for m in _matrices(definition.spec.n_fft))
    if definition.spec.preemphasis:
        x = ops.concatenate([x[:, :1], x[:, 1:] - definition.spec.preemphasis * x[:, :-1]], axis=1)
    x = ops.multiply(_frames(x, definition), definition.window.astype(np.float32))
    x = ops.reshape(ops.matmul(_samples_of_b(x, n1, n2), first), (-1, n2, 2 * n1))
    re, im = x[:, :, :n1], x[:, :, n1:]
    x = ops.concatenate([re * cos - im * sin, re * sin + im * cos], axis=1)
    x = ops.matmul(_bins_of_c(x, n2), second)
    return x[:, : n2 // 2 + 1], x[:, n2 // 2 + 1 :], 1.0


class _Parts(NamedTuple):
    """A number is their sum: few bits, exact, and the rest."""

    coarse: Any
    rest: Any


def _in_parts(x: Any, definition: Definition) -> tuple[Any, Any, float]:
    """As `_plain`, in two parts up to the last sum."""
    spec, (n1, n2) = definition.spec, _factors(definition.spec.n_fft)
    first, cos, sin, second = _matrices(spec.n_fft)
    scale = float(definition.window.max())  # constants are within +-1
    if spec.preemphasis:
        now = _parts(x, None, _limit(x, 1), _bits(2))
        before = _times(_Parts(now.coarse[:, :-1], now.rest[:, :-1]), spec.preemphasis, _bits(2))
        exact = ops.concatenate([now.coarse[:, :1], now.coarse[:, 1:] - before.coarse], axis=1)
        rest = ops.concatenate([now.rest[:, :1], now.rest[:, 1:] - before.rest], axis=1)
        exact, rest = _frames(exact, definition), _frames(rest, definition)
    else:
        exact, rest = _frames(x, definition), None
    limit = _limit(exact, 1)
    frames = _times(_parts(exact, rest, limit, _bits(1)), definition.window / scale, _bits(1))
    frames = _parts(*frames, limit, _bits(n1))
    exact, rest = _product(_Parts(*(_samples_of_b(part, n1, n2) for part in frames)), first, _bits(n1))
    exact, rest = (ops.reshape(part, (-1, n2, 2 * n1)) for part in (exact, rest))
    limit = _limit(exact, (1, 2))
    both = _parts(exact, rest, limit, _bits(2))
    re, im = _Parts(*(part[:, :, :n1] for part in both)), _Parts(*(part[:, :, n1:] for part in both))
    re_cos, im_sin, re_sin, im_cos = (_times(v, c, _bits(2)) for v, c in ((re, cos), (im, sin), (re, sin), (im, cos)))
    exact, rest = (ops.concatenate([re_cos[i] - im_sin[i], re_sin[i] + im_cos[i]], axis=1) for i in (0, 1))
    turned = _parts(exact, rest, limit * 2.0, _bits(2 * n2))  # a turn adds up to a factor of the root of 2
    exact, rest = _product(_Parts(*(_bins_of_c(part, n2) for part in turned)), second, _bits(2 * n2))
    x = exact + rest
    return x[:, : n2 // 2 + 1], x[:, n2 // 2 + 1 :], scale


def _bits(n_terms: int) -> int:
    """Bits of each of two factors, so that a sum of `n_terms` of their products has no more than float32's 24."""
    return (24 - math.ceil(math.log2(n_terms))) // 2


def _limit(x: Any, axis: int | tuple[int, ...]) -> Any:
    """The power of 2 that no value along `axis` exceeds."""
    largest = ops.max(ops.abs(x), axis=axis, keepdims=True)
    limits = ops.convert_to_tensor(_LIMITS)
    within = ops.where(ops.reshape(largest, (-1, 1)) <= limits, limits, 2.0**60)
    return ops.reshape(ops.min(within, axis=1), (-1, *largest.shape[1:]))


def _parts(exact: Any, rest: Any, limit: Any, bits: int) -> _Parts:
    """A number again as a coarse part of `bits` bits below `limit`, and what is then left of it."""
    coarse = ops.round(exact * (2.0**bits / limit)) * (limit * 2.0**-bits)
    left = exact - coarse
    return _Parts(coarse, left if rest is None else left + rest)


def _constant(values: Any, bits: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    coarse = np.round(np.asarray(values) * 2.0**bits) / 2.0**bits
    return coarse.astype(np.float32), (values - coarse).astype(np.float32), np.asarray(values, np.float32)


def _times(x: _Parts, values: Any, bits: int) -> _Parts:
    coarse, rest, whole = _constant(values, bits)
    return _Parts(ops.multiply(x.coarse, coarse), ops.add(ops.multiply(x.coarse, rest), ops.multiply(x.rest, whole)))


def _product(x: _Parts, matrix: np.ndarray, bits: int) -> _Parts:
    coarse, rest, whole = _constant(matrix, bits)
    both = ops.matmul(ops.concatenate(list(x), axis=1), np.concatenate([rest, whole]))
    return _Parts(ops.matmul(x.coarse, coarse), both)
