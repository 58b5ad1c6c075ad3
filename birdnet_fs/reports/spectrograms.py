"""Spectrograms as pictures inside a page, and the sounds and times beside them."""

import base64
import io

import numpy as np
import soundfile

from birdnet_fs import schema
from birdnet_fs.frontend.in_numpy import log_mel

COLORS = "magma"
RANGE_DB = 60.0  # of the colors of a clip, below its loudest point
N_BANDS = 96


def spectrogram_png(features: np.ndarray, low: float, high: float) -> str:
    """Features as a PNG, low frequencies at the bottom.

    Args:
        features: float [n_frames, n_mels].
        low: Value of the darkest color.
        high: Value of the lightest color.

    Returns:
        The picture, n_frames wide and n_mels high, in base64.
    """
    import matplotlib
    from PIL import Image  # matplotlib needs it; a palette takes a quarter of the room that its own pictures do

    steps = np.clip((features.T[::-1] - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    image = Image.fromarray(steps).convert("P")
    image.putpalette((matplotlib.colormaps[COLORS](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes())
    picture = io.BytesIO()
    image.save(picture, "PNG")
    return base64.b64encode(picture.getvalue()).decode()


def clip_png(waveform: np.ndarray, rate_hz: int, *, hop_length: int = 512) -> str:
    """The spectrogram of a clip as a PNG, N_BANDS mel bands high, up to 15 kHz.

    Args:
        waveform: float32 [n_samples]; padded with zeros to 2048.
        rate_hz: Samples per second.
        hop_length: Samples from one column to the next. Default: 512.

    Returns:
        The picture in base64.
    """
    length = max(len(waveform), 2048)
    spec = schema.FrontEnd(
        sample_rate_hz=rate_hz,
        n_fft=1024,
        win_length=1024,
        hop_length=hop_length,
        n_mels=N_BANDS,
        fmin_hz=150.0,
        fmax_hz=min(15_000.0, rate_hz / 2),
    )
    features = log_mel(np.pad(waveform, (0, length - len(waveform))), spec)[0]
    return spectrogram_png(features, features.max() - RANGE_DB, features.max())


def clip_flac(waveform: np.ndarray, rate_hz: int) -> str:
    """A clip as FLAC, which every browser plays.

    Args:
        waveform: float32 [n_samples].
        rate_hz: Samples per second.

    Returns:
        The file in base64.
    """
    encoded = io.BytesIO()
    soundfile.write(encoded, waveform, rate_hz, format="FLAC", subtype="PCM_16")
    return base64.b64encode(encoded.getvalue()).decode()


def clock(seconds: float) -> str:
    """Minutes and seconds, as 1:01.0."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"
