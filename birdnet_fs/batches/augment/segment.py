"""A training segment of a clip: a crop, stretched in time and shifted in pitch (crop.py, stretch_pitch.py)."""

import numpy as np

from birdnet_fs.batches.augment.crop import center, crop
from birdnet_fs.batches.augment.item_random import ItemRandom
from birdnet_fs.batches.augment.stretch_pitch import stretch_and_shift
from birdnet_fs.data.windows import pad_to
from birdnet_fs.schema import Augmentation


def draw_segment(
    waveform: np.ndarray,
    n_samples: int,
    settings: Augmentation,
    item_random: ItemRandom,
    *,
    sample_rate_hz: int,
    activity: np.ndarray | None = None,
    shortest: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a segment of a clip.

    Args:
        waveform: float32 [n], the clip.
        n_samples: Length of the segment.
        settings: Uses `crop`, `stretch` and `pitch`.
        item_random: Generators of the item; descriptions of the changes are appended to it.
        sample_rate_hz: Sample rate of the waveform.
        activity: float64 [n_bins + 1], `cumulative_activity` of the clip, toward which half of the crops are drawn.
            Default: None, all positions are equally likely.
        shortest: Samples. A clip that does not fill the segment keeps its own length, `shortest` or more, and is
            padded behind the last change of the waveform (`FrontEnd.normalize_when=clip`). Default: 0, it is placed at
            a random position in silence.

    Returns:
        The crop, float32 [about n_samples * rate], and the crop stretched to `n_samples` and shifted in pitch; with
        `shortest`, both have as many samples as the clip fills of it.
    """
    rng, rate, semitones = item_random.rng, 1.0, 0.0
    if settings.stretch.p and rng.random() < settings.stretch.p:
        low, high = settings.stretch.rate
        rate = low * (high / low) ** rng.random()
        item_random.changes.append(f"{rate:.2f} times as fast")
    if settings.pitch.p and rng.random() < settings.pitch.p:
        semitones = rng.uniform(-settings.pitch.semitones, settings.pitch.semitones)
        item_random.changes.append(f"{semitones:+.1f} semitones")
    n = round(n_samples * rate)
    if shortest and len(waveform) < n:
        cropped = pad_to(waveform, max(len(waveform), shortest))
        n_samples = min(n_samples, round(len(cropped) / rate))
    elif settings.crop == "center":
        cropped = center(waveform, n)
    else:
        cropped = crop(waveform, n, rng, activity=activity, sample_rate_hz=sample_rate_hz)
    if rate == 1.0 and semitones == 0.0:
        return cropped, cropped
    return cropped, stretch_and_shift(cropped, n_samples, semitones, sample_rate_hz)
