"""Mel bands that contain no FFT bin: their energy is 0 in every frame, whatever the sound.

librosa.filters.mel and torchaudio warn about such bands, too. They appear where bands are narrower than the distance of
the FFT bins, sample rate / n_fft: at low frequencies, with many bands, and at high sample rates.
"""

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.frontend.matrices import mel_edges_hz, mel_matrix
from birdnet_fs.schema import FrontEnd

MAX_SHARE = 0.25  # of the bands; a front-end with more empty ones is refused in training
MAX_N_FFT = 1 << 20  # larger ones are not searched
N_TRIED_AT_ONCE = 256
MAX_NAMED = 6  # runs of neighboring bands in a message


def empty_bands(spec: FrontEnd) -> tuple[int, ...]:
    """Find the bands without an FFT bin.

    Args:
        spec: The front-end.

    Returns:
        Numbers of these bands, from 0; () for bands that are FFT bins (linear, spectrum).
    """
    if spec.bands in ("linear", "spectrum"):
        return ()
    return tuple(np.flatnonzero(~_matrix(spec, spec.n_fft).any(axis=1)).tolist())


def smallest_n_fft(spec: FrontEnd) -> int:
    """Find the smallest FFT, from that of a front-end on, with a bin in every mel band.

    Args:
        spec: A front-end with mel bands.

    Returns:
        An even number; 0 when an FFT of 2 ** 20 samples is too short.
    """
    edges = mel_edges_hz(spec.n_mels, spec.fmin_hz, spec.fmax_hz, htk=spec.bands == "mel_htk")
    low, high = edges[:-2], edges[2:]
    for first in range(spec.n_fft, MAX_N_FFT + 1, 2 * N_TRIED_AT_ONCE):
        lengths = np.arange(first, first + 2 * N_TRIED_AT_ONCE, 2)
        distance = spec.sample_rate_hz / lengths[:, None]
        filled = ((np.floor(low / distance) + 1) * distance < high).all(axis=1)  # the first bin above the lower edge
        for n_fft in lengths[filled].tolist():
            if _matrix(spec, n_fft).any(axis=1).all():
                return n_fft
    return 0


def check_bands(spec: FrontEnd) -> None:
    """Name the mel bands that contain no FFT bin, before a training.

    Args:
        spec: The front-end.

    Raises:
        UserError: More than a quarter of the bands contain none.
    """
    empty = empty_bands(spec)
    if not empty:
        return
    n_fft = smallest_n_fft(spec)
    larger = f"the smallest frontend.n_fft that fills them is {n_fft} (now {spec.n_fft}); " if n_fft else ""
    message = (
        f"{len(empty)} of {spec.n_mels} mel bands contain no FFT bin and are 0 in every frame (bands "
        f"{_ranges(empty)}, counted from 0); {larger}fewer bands (frontend.n_mels) or a higher frontend.fmin_hz help "
        "too."
    )
    if len(empty) > MAX_SHARE * spec.n_mels:
        raise UserError(f"More than {MAX_SHARE:.0%} of the bands are empty: {message}")
    say(message)


def _matrix(spec: FrontEnd, n_fft: int) -> np.ndarray:
    size = (spec.sample_rate_hz, n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
    return mel_matrix(*size, htk=spec.bands == "mel_htk")


def _ranges(numbers: tuple[int, ...]) -> str:
    """Write sorted numbers as ranges: (0, 1, 2, 5) is "0-2, 5"."""
    starts = [n for n in numbers if n - 1 not in numbers]
    ends = [n for n in numbers if n + 1 not in numbers]
    shown = [f"{a}-{b}" if a < b else str(a) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(shown[:MAX_NAMED]) + (" ..." if len(shown) > MAX_NAMED else "")
