"""Spectrograms with axes as pictures inside a page, and the sounds and times beside them."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from birdnet_fs import schema
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.frontend.matrices import mel_edges_hz

COLORS = "magma"
RANGE_DB = 60.0  # of the colors of a clip, below its loudest point
N_BANDS = 96
LOWEST_HZ, HIGHEST_HZ = 150.0, 15_000.0  # of a clip; above for recordings of bats, which have higher rates
ULTRASOUND_HZ = 96_000  # lowest rate of a recording whose picture has all frequencies and whose sound is slowed
SLOWED = 10  # times that the sound of such a recording is slowed, as bat detectors do
MP3_RATES_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600)
_MOST_TIMES = 6
_KHZ = (0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


@dataclass(frozen=True)
class Mark:
    """A marked part of a clip.

    Attributes:
        start_s: Start in the clip, seconds.
        end_s: End in the clip, seconds.
        color: Color of its lines, as in CSS.
        name: Text in its upper corner; "" for none.
        row: Line of that text, counted from the top.
    """

    start_s: float
    end_s: float
    color: str = "#7fd1ff"
    name: str = ""
    row: int = 0


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


def picture(
    waveform: np.ndarray,
    rate_hz: int,
    *,
    start_s: float = 0.0,
    marks: Sequence[Mark] = (),
    hop_length: int = 512,
) -> dict[str, Any]:
    """A clip as a spectrogram with axes, for the template spectrogram.html.

    Args:
        waveform: float32 [n_samples]; padded with zeros to 2048.
        rate_hz: Samples per second.
        start_s: Time of its first sample in the recording, seconds, for the axis. Default: 0.
        marks: Marked parts. Default: ().
        hop_length: Samples from one column to the next. Default: 512.

    Returns:
        png (base64, N_BANDS pixels high), frequencies (height in percent and kHz of each label), times (place in
        percent and text of each label) and marks (left and right ends in percent, color,
        name and row).
    """
    length_s = max(len(waveform), 1) / rate_hz
    step = next((step for step in _STEPS_S if length_s / step <= _MOST_TIMES), 2 * _STEPS_S[-1])
    first = -(-start_s // step)
    times = [step * (first + k) for k in range(int((start_s + length_s) / step - first + 1e-9) + 1)]
    return {
        "png": clip_png(waveform, rate_hz, hop_length=hop_length),
        "frequencies": _frequencies(rate_hz),
        "times": [(100 * (time - start_s) / length_s, _time(time, step)) for time in times],
        "marks": [
            {
                "left": _percent(mark.start_s, length_s),
                "right": _percent(mark.end_s, length_s),
                "color": mark.color,
                "name": mark.name,
                "row": mark.row,
            }
            for mark in marks
        ],
    }


def clip_png(waveform: np.ndarray, rate_hz: int, *, hop_length: int = 512) -> str:
    """The spectrogram of a clip as a PNG, N_BANDS mel bands high, up to 15 kHz (ultrasound: up to half the rate).

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
        fmin_hz=LOWEST_HZ,
        fmax_hz=_highest_hz(rate_hz),
    )
    features = log_mel(np.pad(waveform, (0, length - len(waveform))), spec)[0]
    return spectrogram_png(features, features.max() - RANGE_DB, features.max())


def sound(waveform: np.ndarray, rate_hz: int) -> dict[str, Any]:
    """A clip as a small file that every browser plays: MP3, or FLAC where libsndfile was built without it.

    Args:
        waveform: float32 [n_samples].
        rate_hz: Samples per second.

    Returns:
        kind ("mpeg" or "flac", of the media type), data (the file in base64) and slowed (SLOWED for ultrasound, which
        is slowed to audible frequencies, else 1).
    """
    slowed = SLOWED if rate_hz >= ULTRASOUND_HZ else 1
    played_hz = rate_hz // slowed
    if "MP3" not in soundfile.available_formats() or played_hz not in MP3_RATES_HZ:
        return {"kind": "flac", "data": clip_flac(waveform, played_hz), "slowed": slowed}
    encoded = io.BytesIO()
    # the encoder clips what is beyond full scale
    soundfile.write(encoded, np.clip(waveform, -1, 1), played_hz, format="MP3", compression_level=0.6)
    return {"kind": "mpeg", "data": base64.b64encode(encoded.getvalue()).decode(), "slowed": slowed}


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


def _percent(place_s: float, length_s: float) -> float:
    return 100 * min(max(place_s / length_s, 0.0), 1.0)


def _highest_hz(rate_hz: int) -> float:
    return rate_hz / 2 if rate_hz >= ULTRASOUND_HZ else min(HIGHEST_HZ, rate_hz / 2)


def _frequencies(rate_hz: int) -> list[tuple[float, str]]:
    """Height in percent of round frequencies, between the centers of the lowest and the highest band."""
    centers = mel_edges_hz(N_BANDS, LOWEST_HZ, _highest_hz(rate_hz))[1:-1]
    heights = np.interp([1000 * khz for khz in _KHZ], centers, 100 * (np.arange(N_BANDS) + 0.5) / N_BANDS)
    found = [
        (float(height), f"{khz:g}")
        for khz, height in zip(_KHZ, heights, strict=True)
        if centers[0] < 1000 * khz <= centers[-1] * 1.02
    ]
    kept: list[tuple[float, str]] = []
    for place, text in reversed(found):  # the highest is kept where two would touch
        if not kept or kept[-1][0] - place >= 9:
            kept.append((place, text))
    return [(place, f"{text} kHz" if i == 0 else text) for i, (place, text) in enumerate(kept)]


def _time(seconds: float, step: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    if step < 1:
        return f"{int(minutes)}:{rest:04.1f}" if minutes else f"{rest:.1f} s"
    return f"{int(minutes)}:{rest:02.0f}" if minutes else f"{rest:.0f} s"
