"""Spectrogram cross-correlation: the similarity of two clips at the time shift where they fit best.

Clark, Marler, Beeman 1987, "Quantitative analysis of animal vocal phonology: an application to swamp sparrow song",
Ethology 76:101-115; Khanna, Gaunt, McCallum 1997, "Digital spectrographic cross-correlation: tests of sensitivity",
Bioacoustics 7:209-234. Nothing is learned.

The spectrogram of a clip has N_BANDS mel bands in decibels, clipped to DEPTH_DB below its maximum, minus its mean and
scaled to length 1. One spectrogram is shifted against the other in time, and by up to SHIFT bands in frequency, with
zeros (the mean) beyond its edges. The largest sum of products is the correlation. All time shifts are computed by one
Fourier transform.
"""

from collections.abc import Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import track
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel

# chosen on syllables of a Bengalese finch, across recordings; below 30 dB the background has an influence
N_BANDS, DEPTH_DB, SHIFT = 32, 30.0, 1
MIN_STEP_S = 0.004  # shortest hop between frames
MAX_FRAMES = 256  # of a clip of median length; the hop is longer for longer clips
MAX_MEDIANS = 4  # of a longer clip, only the first 4 median lengths are compared
MAX_CLIPS = 20_000  # 1.6 GB of correlations
BLOCK_BYTES = 2**24  # size of the products computed at a time

Floats = NDArray[np.float32]


def correlation_frontend(spec: schema.FrontEnd, n_samples: int) -> schema.FrontEnd:
    """Build the front-end of the spectrograms that are compared.

    Args:
        spec: Front-end with the sample rate and the frequency range to use.
        n_samples: Median length of the clips. The hop is n_samples / MAX_FRAMES or MIN_STEP_S, whichever is longer,
            rounded up to a power of two; a frame is two hops long.

    Returns:
        The front-end.
    """
    step = max(MIN_STEP_S * spec.sample_rate_hz, n_samples / MAX_FRAMES)
    hop = max(8, 1 << int(np.ceil(np.log2(step))))
    return schema.FrontEnd(
        preset="correlation",
        sample_rate_hz=spec.sample_rate_hz,
        segment_s=n_samples / spec.sample_rate_hz,
        n_fft=2 * hop,
        win_length=2 * hop,
        hop_length=hop,
        n_mels=N_BANDS,
        fmin_hz=spec.fmin_hz,
        fmax_hz=spec.fmax_hz,
        top_db=DEPTH_DB,
    )


def spectrograms(waveforms: Waveforms | Sequence[Floats], spec: schema.FrontEnd) -> list[Floats]:
    """Compute the spectrograms that are compared.

    Args:
        waveforms: float32 [n_samples] each, at the sample rate of `spec`.
        spec: Front-end with the sample rate and the frequency range to use.

    Returns:
        float32 [n_frames, N_BANDS] for each clip, with mean 0 and length 1; zeros for silence.

    Raises:
        UserError: There is no clip.
    """
    lengths = [len(waveforms[i]) for i in range(len(waveforms))]
    if not lengths:
        raise UserError("One or more clips to correlate were expected. Received: none")
    median = int(np.median(lengths))
    own = correlation_frontend(spec, median)
    found = []
    for i in range(len(waveforms)):
        x = log_mel(waveforms[i][: MAX_MEDIANS * median], own)[0]
        x = x - x.mean()
        found.append(x / max(float(np.linalg.norm(x)), 1e-6))
    return found


def correlations(clips: Sequence[Floats], *, shift: int = SHIFT) -> Floats:
    """Compute the largest correlation of every pair of spectrograms over shifts in time and frequency.

    Args:
        clips: float32 [n_frames, n_bands] each, from `spectrograms`.
        shift: Largest shift in bands, up and down, 0 or more. Default: 1.

    Returns:
        float32 [n_clips, n_clips], symmetric, at most 1; the diagonal is 1 except for silence.

    Raises:
        UserError: There are more than MAX_CLIPS clips.
    """
    if len(clips) > MAX_CLIPS:
        raise UserError(
            f"At most {MAX_CLIPS} clips can be correlated with one another; choose fewer with data.where. "
            f"Received: {len(clips)}"
        )
    longest, n_bands = max(len(clip) for clip in clips), clips[0].shape[1]
    n_lags = scipy.fft.next_fast_len(2 * longest - 1, real=True)
    spectra = np.empty((n_lags // 2 + 1, len(clips), n_bands), np.complex64)
    for i, clip in enumerate(clips):
        spectra[:, i] = scipy.fft.rfft(clip, n_lags, axis=0)
    block = max(1, int(np.sqrt(BLOCK_BYTES / (8 * len(spectra)))))
    starts = range(0, len(clips), block)
    best = np.empty((len(clips), len(clips)), np.float32)
    corners = [(a, b) for a in starts for b in starts if b >= a]
    for a, b in track(corners, "correlating clips", unit="block"):
        rows, columns = slice(a, a + block), slice(b, b + block)
        found = _best(spectra[:, rows], spectra[:, columns], n_lags, shift)
        if a == b:
            found = np.maximum(found, found.T)  # float32 sums depend on the order of a pair
        best[rows, columns], best[columns, rows] = found, found.T
    return best


def _best(first: NDArray[np.complex64], second: NDArray[np.complex64], n_lags: int, shift: int) -> Floats:
    """Largest correlations [n_first, n_second] from spectra over time [n_freqs, n, n_bands]."""
    n_bands, best = first.shape[2], np.full((first.shape[1], second.shape[1]), -np.inf, np.float32)
    for bands in range(-shift, shift + 1):
        low, high = max(0, bands), min(n_bands, n_bands + bands)
        moved = second[:, :, low - bands : high - bands].conj().swapaxes(1, 2)
        products = np.matmul(first[:, :, low:high], moved)
        over_time = scipy.fft.irfft(products, n_lags, axis=0)
        np.maximum(best, over_time.max(axis=0), out=best)
    return best
