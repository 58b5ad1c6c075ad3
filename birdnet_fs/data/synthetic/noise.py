"""Noise without any animal but insects, computed from formulas: what a field recorder records while nothing sings.

`birdnet-fs calibrate` scores it to find how often a model reports its classes in rain, wind, engines, hiss and insects.
Every recording is drawn from (seed, kind, number): the same call gives the same samples.
"""

from collections.abc import Callable, Mapping

import numpy as np

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.data.synthetic.song import (
    SAMPLE_RATE_HZ,
    slow_curve,
    synthesize_insect,
    synthesize_rain,
    synthesize_wind,
)

LEVEL_DB = (-45.0, -15.0)  # RMS of a recording, from quiet to loud


def synthesize_noise(kind: str, duration_s: float, *, seed: int = 0, number: int = 0) -> np.ndarray:
    """Synthesize a recording of noise.

    Args:
        kind: A key of `KINDS`.
        duration_s: Length in seconds, above 0.
        seed: 0 or more. Default: 0.
        number: Number of the recording of this kind, 0 or more. Default: 0.

    Returns:
        float32 [n_samples] in ±1, at `SAMPLE_RATE_HZ`.

    Raises:
        UserError: There is no such kind.
    """
    if kind not in KINDS:
        raise UserError(f"kind must be one of {', '.join(KINDS)}.{nearest(kind, KINDS)} Received: {kind!r}")
    # not a random stream of the package, as for the other synthetic recordings: every version makes the same samples
    rng = np.random.default_rng([seed, 1 + list(KINDS).index(kind), number])
    sound = KINDS[kind](round(duration_s * SAMPLE_RATE_HZ), rng)
    sound = sound * (10 ** (rng.uniform(*LEVEL_DB) / 20) / (np.sqrt(np.mean(sound**2)) + 1e-12))
    return np.clip(sound, -1, 1).astype(np.float32)


def _wind(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gusts that rise and fall by up to 20 dB within seconds."""
    gusts = 10 ** (slow_curve(n_samples, 2.0, rng) * (rng.uniform(4, 10) / 20))
    return synthesize_wind(n_samples, rng) * gusts


def _rain(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Drops on leaves and on the recorder, over the broadband noise of more distant rain."""
    sound = synthesize_rain(n_samples, rng) + rng.uniform(0.2, 1.5) * synthesize_rain(n_samples, rng)
    distant = _colored(n_samples, -rng.uniform(0.0, 0.5), 200.0, rng)
    return sound + 10 ** (rng.uniform(-6, 6) / 20) * distant


def _engine(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A motor: harmonics of a slowly drifting rate of ignition, and the low noise of its exhaust."""
    rate_hz = rng.uniform(25, 140) * 2 ** (0.15 * slow_curve(n_samples, 3.0, rng).astype(np.float64))
    turns = 2 * np.pi * np.cumsum(rate_hz) / SAMPLE_RATE_HZ
    sound = np.zeros(n_samples)
    falls_db = rng.uniform(2, 5)
    for k in range(1, 25):
        level = 10 ** (-(falls_db * np.log2(k) + rng.uniform(0, 12)) / 20)
        sound += level * np.sin(k * turns + 2 * np.pi * rng.random())
    passing = 10 ** (slow_curve(n_samples, 8.0, rng) * 6 / 20)  # vehicles come and go
    noise = _colored(n_samples, -1.0, 60.0, rng)
    return passing * (sound / np.sqrt(np.mean(sound**2)) + 10 ** (rng.uniform(-12, 0) / 20) * noise)


def _hiss(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """The noise of a recorder: even, or falling or rising with frequency, with the hum of the mains in some."""
    sound = _colored(n_samples, rng.uniform(-0.6, 0.3), 50.0, rng)
    if rng.random() < 0.3:
        t = np.arange(n_samples) / SAMPLE_RATE_HZ
        hum = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 2, 3, 4, 6))
        sound = sound + 10 ** (rng.uniform(-20, -6) / 20) * hum
    return sound


def _insects(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Two to five crickets or cicadas over quiet wind."""
    sound = sum(
        10 ** (rng.uniform(-12, 0) / 20) * synthesize_insect(n_samples, rng) for _ in range(int(rng.integers(2, 6)))
    )
    return sound + 10 ** (rng.uniform(-25, -8) / 20) * synthesize_wind(n_samples, rng)


def _colored(n_samples: int, slope: float, from_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Noise [n_samples] of RMS 1 whose amplitude is (frequency / `from_hz`) ** slope above `from_hz`, even below."""
    hz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE_HZ).astype(np.float32)
    spectrum = rng.standard_normal((len(hz), 2), dtype=np.float32).view(np.complex64)[:, 0]
    sound = np.fft.irfft(spectrum * (np.maximum(hz, from_hz) / from_hz) ** np.float32(slope), n_samples)
    return sound / np.sqrt(np.mean(sound**2))


KINDS: Mapping[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "rain": _rain,
    "wind": _wind,
    "engine": _engine,
    "hiss": _hiss,
    "insects": _insects,
}
