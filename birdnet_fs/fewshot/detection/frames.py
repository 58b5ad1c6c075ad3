"""Frames of a recording: energies of mel bands relative to the background of the recording.

The energy of each band is divided by its median over the recording, which is the background where sounds are rarer
than silence, and log(1 + x) of it is taken: 0 is silence, and a band that is twice as loud as the background is .7 to
1.1. As with PCEN (Wang et al. 2017, https://arxiv.org/abs/1607.05666), steady noise and the gain of the recorder
have no influence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_numpy import log_mel

N_BANDS = 40
FRAMES_PER_EVENT = 10  # frames of an event of mean length, within these limits
SHORTEST_HOP_S, LONGEST_HOP_S = 0.006, 0.05
N_FFT = (512, 2048)  # shortest and longest frame at 32 kHz
BLOCK_S = 60.0  # audio whose features are computed at a time
QUIETEST = 1e-12  # power of a band of digital silence


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of a recording.

    Attributes:
        values: float32 [n_frames, N_BANDS], 0 or more.
        hop_s: Seconds from one frame to the next.
    """

    values: NDArray[np.float32]
    hop_s: float


def frame_frontend(event_s: float, *, sample_rate_hz: int, fmin_hz: float, fmax_hz: float) -> schema.FrontEnd:
    """Build the front-end of the frames.

    Args:
        event_s: Mean length of the examples in seconds.
        sample_rate_hz: Rate of the waveform.
        fmin_hz: Lowest frequency of the bands.
        fmax_hz: Highest frequency of the bands.

    Returns:
        The front-end: power of N_BANDS mel bands.
    """
    hop_s = min(max(event_s / FRAMES_PER_EVENT, SHORTEST_HOP_S), LONGEST_HOP_S)
    hop = max(1, round(hop_s * sample_rate_hz))
    shortest, longest = (n * sample_rate_hz // 32_000 for n in N_FFT)
    n_fft = 1 << int(np.ceil(np.log2(min(max(2 * hop, shortest), longest))))
    return schema.FrontEnd(
        preset="custom",
        sample_rate_hz=sample_rate_hz,
        segment_s=1.0,
        n_fft=n_fft,
        win_length=n_fft,
        hop_length=hop,
        n_mels=N_BANDS,
        fmin_hz=fmin_hz,
        fmax_hz=fmax_hz,
        compression="none",
    )


def compute_frames(waveform: NDArray[np.float32], spec: schema.FrontEnd) -> Frames:
    """Compute the frames of a recording.

    Args:
        waveform: float32 [n_samples] in ±1, at the rate of `spec`.
        spec: Front-end, from `frame_frontend`.

    Returns:
        The frames; frame i is centered at i hops.

    Raises:
        UserError: The recording is shorter than a frame, or holds nothing but digital silence.
    """
    if len(waveform) < spec.min_samples:
        raise UserError(f"the recording has {len(waveform)} samples, fewer than a frame of {spec.n_fft}")
    # blocks overlap by the half frame that the padding of the front-end would replace
    edge = -(-spec.n_fft // (2 * spec.hop_length))
    n_frames, size = spec.n_frames_of(len(waveform)), max(1, round(BLOCK_S * spec.sample_rate_hz / spec.hop_length))
    power = np.empty((n_frames, N_BANDS), np.float32)
    for start in range(0, n_frames, size):
        stop = min(start + size, n_frames)
        first = max(0, start - edge)
        rest = n_frames - stop <= 2 * edge
        end = len(waveform) if rest else (stop + edge) * spec.hop_length
        found = log_mel(waveform[first * spec.hop_length : end], spec)[0]
        power[start:stop] = found[start - first : stop - first]
    sounding = power[power.max(axis=1) > QUIETEST]
    if not len(sounding):
        raise UserError("the recording is silent")
    background = np.maximum(np.median(sounding, axis=0), QUIETEST)
    return Frames(np.log1p(power / background), spec.hop_length / spec.sample_rate_hz)
