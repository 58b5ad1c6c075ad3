"""Spectrogram cross-correlation: how alike two clips are where they fit best over each other.

Source: Clark, Marler, Beeman 1987, "Quantitative analysis of animal vocal phonology: an application to swamp sparrow
song", Ethology 76:101-115; Khanna, Gaunt, McCallum 1997, "Digital spectrographic cross-correlation: tests of
sensitivity", Bioacoustics 7:209-234 (what it is sensitive to). Nothing is learned.

A clip becomes decibels of N_BANDS mel bands, of which the loudest DEPTH_DB are kept; less their mean, of length 1.
One spectrogram is moved over the other in time, and by SHIFT bands up or down, zeros (the mean) beyond its edges; the
largest sum of products is the correlation. The products for all times are one Fourier transform.
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

# chosen on the base syllables of a Bengalese finch, across recordings: deeper than 30 dB the background counts
N_BANDS, DEPTH_DB, SHIFT = 32, 30.0, 1
MIN_STEP_S = 0.004  # from frame to frame
MAX_FRAMES = 256  # of a clip of median length: steps are longer for longer clips
MAX_MEDIANS = 4  # medians: of a longer clip the front is compared
MAX_CLIPS = 20_000  # 1.6 GB of correlations
BLOCK_BYTES = 2**24  # of products that are held at a time

Floats = NDArray[np.float32]


def correlation_frontend(spec: schema.FrontEnd, n_samples: int) -> schema.FrontEnd:
    """The spectrogram that clips are compared by.

    Args:
        spec: Rate and range of frequencies are those of this one.
        n_samples: Median length of the clips; a frame is two steps long, a step n_samples / MAX_FRAMES or
            MIN_STEP_S, up to the next power of two.
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
    """The clips as they are compared: float32 [n_frames, N_BANDS] each, mean 0, length 1 (silence: zeros).

    Args:
        waveforms: float32 [n_samples] each, at the rate of `spec`.
        spec: Front-end of the run, for its rate and range of frequencies.

    Raises:
        UserError: There is no clip.
    """
    lengths = [len(waveforms[i]) for i in range(len(waveforms))]
    if not lengths:
        raise UserError("Clips to correlate were expected; received none.")
    median = int(np.median(lengths))
    own = correlation_frontend(spec, median)
    found = []
    for i in range(len(waveforms)):
        x = log_mel(waveforms[i][: MAX_MEDIANS * median], own)[0]
        x = x - x.mean()
        found.append(x / max(float(np.linalg.norm(x)), 1e-6))
    return found


def correlations(clips: Sequence[Floats], *, shift: int = SHIFT) -> Floats:
    """The largest correlation of every pair of spectrograms over all shifts in time and a few in frequency.

    Args:
        clips: [n_frames, n_bands] each, as `spectrograms` gives them.
        shift: Bands up and down, 0 or more.

    Returns:
        float32 [n_clips, n_clips], symmetric, at most 1; 1 on the diagonal but for silence.

    Raises:
        UserError: More than MAX_CLIPS.
    """
    if len(clips) > MAX_CLIPS:
        raise UserError(
            f"At most {MAX_CLIPS} clips can be correlated, each with each; choose fewer with data.where. "
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
            found = np.maximum(found, found.T)  # float32 sums may differ with the order of a pair
        best[rows, columns], best[columns, rows] = found, found.T
    return best


def _best(first: NDArray[np.complex64], second: NDArray[np.complex64], n_lags: int, shift: int) -> Floats:
    """[n_first, n_second] from spectra over time [n_freqs, n, n_bands]."""
    n_bands, best = first.shape[2], np.full((first.shape[1], second.shape[1]), -np.inf, np.float32)
    for bands in range(-shift, shift + 1):
        low, high = max(0, bands), min(n_bands, n_bands + bands)
        moved = second[:, :, low - bands : high - bands].conj().swapaxes(1, 2)
        products = np.matmul(first[:, :, low:high], moved)
        over_time = scipy.fft.irfft(products, n_lags, axis=0)
        np.maximum(best, over_time.max(axis=0), out=best)
    return best
