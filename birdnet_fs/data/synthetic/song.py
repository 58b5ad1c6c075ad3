"""The sounds of the synthetic aviary: invented bird song and weather, computed from formulas.

A species is one row of `SPECIES`; an individual has its own pitch, tempo and timbre; a song is one utterance. Every
partial is a sine with a raised-cosine envelope that fades out below `CEILING_HZ`, so that nothing reaches the Nyquist
frequency and nothing aliases. All random numbers come from the `numpy.random.Generator` that is passed in: generators
in the same state give the same samples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

SAMPLE_RATE_HZ = 32_000
CEILING_HZ = 14_500.0  # no partial has energy above this


@dataclass(frozen=True)
class Species:
    """Names and song of one species."""

    latin: str
    common: str
    low_hz: float  # lowest fundamental of a typical individual
    high_hz: float  # highest fundamental of a typical individual
    contour: Literal["rise", "fall", "arch", "alternate"]  # shape of each note between low_hz and high_hz
    note_s: float  # length of a note
    gap_s: float  # silence between notes
    n_notes: tuple[int, int]  # per song, both ends included
    n_partials: int = 1
    vibrato_hz: float = 0.0  # rate; 0 = none
    vibrato_depth_hz: float = 0.0
    buzz_hz: float = 0.0  # rate of the amplitude modulation; 0 = a pure tone

    @property
    def name(self) -> str:
        """`Scientific name_Common name`, as label files have it."""
        return f"{self.latin}_{self.common}"


# Neighboring rows are similar on purpose: the same band with another contour, or the same contour at another tempo.
SPECIES = (
    #       latin                 common                 low    high   contour      note  gap   notes  partials
    Species("Sibilus aureus", "Gilded piper", 2600, 3500, "rise", 0.30, 0.12, (3, 5), 2),
    Species("Sibilus inversus", "Mirror piper", 2650, 3450, "fall", 0.30, 0.12, (3, 5), 2),
    Species("Tremula rapida", "Quick tremolet", 3200, 4300, "fall", 0.035, 0.03, (14, 26)),
    Species("Tremula lenta", "Slow tremolet", 3300, 4400, "fall", 0.055, 0.075, (8, 14)),
    Species("Fundula corvina", "Hollow stackbill", 700, 900, "arch", 0.26, 0.15, (2, 4), 7),
    Species("Stridula arida", "Dry buzzer", 3400, 4400, "rise", 0.55, 0.20, (1, 3), 2, buzz_hz=85),
    Species("Scala lucida", "Bright sweeper", 2100, 6600, "rise", 0.13, 0.16, (3, 6)),
    Species("Vibrata montana", "Hill warbler-wren", 3000, 3700, "arch", 0.45, 0.15, (2, 3), 2, 26, 260),
    Species("Scala obscura", "Dusk sweeper", 2000, 6200, "fall", 0.13, 0.16, (3, 6)),
    Species("Fundula minor", "Lesser stackbill", 950, 1150, "arch", 0.18, 0.10, (3, 6), 5),
    Species("Stridula densa", "Thick buzzer", 3600, 4700, "fall", 0.40, 0.15, (2, 4), 2, buzz_hz=150),
    Species("Bitona alterna", "Two-tone chimer", 2900, 3900, "alternate", 0.16, 0.05, (4, 8), 2),
)


@dataclass(frozen=True)
class Individual:
    """An individual: its species, and its differences from a typical one as factors around 1."""

    species: Species
    pitch: float
    tempo: float
    vibrato: float  # factor on the vibrato and buzz rates
    partial_db: float  # each partial is this much below the one before

    @classmethod
    def draw(cls, species: Species, rng: np.random.Generator) -> "Individual":
        """Draw an individual of a species."""
        return cls(
            species,
            pitch=float(np.exp(0.07 * np.clip(rng.standard_normal(), -2, 2))),
            tempo=float(np.exp(0.12 * np.clip(rng.standard_normal(), -2, 2))),
            vibrato=float(rng.uniform(0.85, 1.18)),
            partial_db=float(rng.uniform(4, 16)),
        )


@dataclass(frozen=True)
class Song:
    """One utterance: `waveform` is float32 [n_samples], without silence at its ends, peak about 1."""

    waveform: np.ndarray
    low_hz: float  # lowest frequency of the fundamental
    high_hz: float  # highest frequency of the highest partial


def synthesize_song(individual: Individual, rng: np.random.Generator, *, sample_rate_hz: int = SAMPLE_RATE_HZ) -> Song:
    """Synthesize one song of an individual.

    Args:
        individual: The individual.
        rng: Generator that the number of notes and their small differences are drawn from.
        sample_rate_hz: A multiple of `SAMPLE_RATE_HZ`; the same song at a higher sample rate. Default: 32,000.

    Returns:
        The song.
    """
    species = individual.species
    n_notes = int(rng.integers(species.n_notes[0], species.n_notes[1] + 1))
    detune = np.exp(0.012 * rng.standard_normal(n_notes))
    loudness = 10 ** (rng.uniform(-5, 0, n_notes) / 20)
    finer = sample_rate_hz // SAMPLE_RATE_HZ
    n_note = round(species.note_s / individual.tempo * SAMPLE_RATE_HZ) * finer
    n_step = n_note + round(species.gap_s / individual.tempo * SAMPLE_RATE_HZ) * finer
    waveform = np.zeros(n_step * (n_notes - 1) + n_note)
    bands = []
    for i in range(n_notes):
        hz = _pitch(individual, n_note, sample_rate_hz, flip=i % 2 == 1) * detune[i]
        waveform[i * n_step : i * n_step + n_note] = loudness[i] * _note(individual, hz, sample_rate_hz)
        bands.append((hz.min(), hz.max()))
    low = min(band[0] for band in bands)
    high = max(band[1] for band in bands)
    audible = max(1, min(species.n_partials, int(CEILING_HZ / high)))
    return Song(waveform.astype(np.float32), float(low), float(high * audible))


def _pitch(individual: Individual, n_samples: int, sample_rate_hz: int, *, flip: bool) -> np.ndarray:
    """The fundamental frequency of one note in Hz, [n_samples]."""
    species = individual.species
    u = np.arange(n_samples) / n_samples
    height = {
        "rise": u,
        "fall": 1 - u,
        "arch": np.sin(np.pi * u),
        "alternate": np.full(n_samples, float(flip)),
    }[species.contour]
    hz = species.low_hz * (species.high_hz / species.low_hz) ** height
    if species.vibrato_hz:
        t = np.arange(n_samples) / sample_rate_hz
        hz = hz + species.vibrato_depth_hz * np.sin(2 * np.pi * species.vibrato_hz * individual.vibrato * t)
    return individual.pitch * hz


def _note(individual: Individual, hz: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """One note with partials over the fundamental `hz` [n_samples] and a raised-cosine envelope."""
    species = individual.species
    # the trapezoid rule keeps the phase independent of the sampling rate
    turns = np.concatenate([[0.0], np.cumsum((hz[1:] + hz[:-1]) / 2)]) / sample_rate_hz
    wave = np.zeros(len(hz))
    for k in range(1, species.n_partials + 1):
        fade = np.clip((CEILING_HZ - k * hz) / 1000, 0, 1)
        if fade.any():
            wave += 10 ** (-individual.partial_db * (k - 1) / 20) * fade * np.sin(2 * np.pi * k * turns)
    u = np.arange(len(hz)) / len(hz)
    envelope = np.sin(np.pi / 2 * np.clip(np.minimum(u, 1 - u) / 0.3, 0, 1)) ** 2
    if species.buzz_hz:
        t = np.arange(len(hz)) / sample_rate_hz
        envelope = envelope * (0.52 - 0.48 * np.cos(2 * np.pi * species.buzz_hz * individual.vibrato * t))
    return wave * envelope


def synthesize_weather(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Synthesize background noise: wind, and sometimes rain and insects; float32 [n_samples], RMS 1."""
    sound = synthesize_wind(n_samples, rng)
    if rng.random() < 0.3:
        sound += 10 ** (rng.uniform(-12, 0) / 20) * synthesize_rain(n_samples, rng)
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        sound += 10 ** (rng.uniform(-18, -4) / 20) * synthesize_insect(n_samples, rng)
    return (sound / np.sqrt(np.mean(sound**2))).astype(np.float32)


def synthesize_wind(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Noise [n_samples] whose level falls with frequency and varies in gusts, and the hiss of the recorder."""
    hz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE_HZ).astype(np.float32)
    gain = (np.maximum(hz, 80) / 1000) ** np.float32(-rng.uniform(0.7, 1.3))
    spectrum = rng.standard_normal((len(hz), 2), dtype=np.float32).view(np.complex64)[:, 0]
    gusts = np.fft.irfft(spectrum * gain, n_samples)
    gusts /= np.sqrt(np.mean(gusts**2))
    hiss = rng.standard_normal(n_samples, dtype=np.float32)
    swell = 10 ** (slow_curve(n_samples, 0.7, rng) * np.float32(4 / 20))
    return gusts * swell + np.float32(10 ** (rng.uniform(-20, -8) / 20)) * hiss


def synthesize_rain(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Rain drops [n_samples]: sparse broadband clicks that decay within a few milliseconds."""
    t = np.arange(round(0.01 * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    drop = np.sin(2 * np.pi * rng.uniform(1500, 5000) * t) * np.exp(-t / 0.0015)
    rain = np.zeros(n_samples + len(t))
    for at in rng.integers(0, n_samples, rng.poisson(rng.uniform(40, 300) * n_samples / SAMPLE_RATE_HZ)):
        rain[at : at + len(t)] += rng.exponential() * drop
    rain = rain[:n_samples]
    return rain / (np.sqrt(np.mean(rain**2)) + 1e-12)


def synthesize_insect(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """A cricket or cicada [n_samples]: a steady carrier in fast pulses, in chirps or continuous."""
    turns = np.arange(n_samples) * (2 * np.pi / SAMPLE_RATE_HZ)
    carrier = np.sin((rng.uniform(3800, 8500) * turns + 2 * np.pi * rng.random()) % (2 * np.pi), dtype=np.float32)
    pulses = 0.5 - 0.5 * np.cos((rng.uniform(18, 60) * turns) % (2 * np.pi), dtype=np.float32)
    chirps = np.ones(1, np.float32)
    if rng.random() < 0.6:
        chirps = np.clip(1.5 * np.sin(rng.uniform(0.5, 3) * turns + 6 * rng.random()) + 0.5, 0, 1)
    sound = carrier * pulses * chirps
    return sound / (np.sqrt(np.mean(sound**2)) + 1e-12)


def slow_curve(n_samples: int, step_s: float, rng: np.random.Generator) -> np.ndarray:
    """A slow random curve around 0: standard normal numbers, joined by straight lines.

    Args:
        n_samples: Length in samples.
        step_s: Seconds between the numbers.
        rng: Generator of the numbers.

    Returns:
        float32 [n_samples].
    """
    n_points = 3 + int(n_samples / SAMPLE_RATE_HZ / step_s)
    at = np.linspace(0, n_points - 1, n_samples)
    return np.interp(at, np.arange(n_points), rng.standard_normal(n_points)).astype(np.float32)
