"""The synthetic aviary: a small labeled data set that the package generates for demonstrations and tests.

It holds labeled clips of known individuals, soundscapes with the exact time of every song, and recordings without
birds, in the layout of a real data set (`metadata.csv`, `annotations.csv`, Raven tables). Species overlap in frequency;
wind, rain and insects reach the level of the songs, and other species sing in the background. No sound is of a real
animal. Every number is drawn from (seed, kind, index): the same call gives the same bytes on the same machine, and a
recording does not depend on the number of the others.
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.data.synthetic.song import (
    SAMPLE_RATE_HZ,
    SPECIES,
    Individual,
    Song,
    Species,
    synthesize_song,
    synthesize_weather,
)

CLIP_S = 5.0
N_FOLDS = 5
N_BACKGROUND = 10
SNR_DB = (-1.0, 16.0)  # lowest and highest level of a song over the weather, within the band of the song

_METADATA = ("filename", "set", "label", "labels", "start", "end", "duration", "split", "fold", "group")
_ANNOTATIONS = ("filename", "set", "start", "end", "low_hz", "high_hz", "label", "split", "label_source")
_RAVEN = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
_SPLITS = ("test", "val", "train", "train", "train")  # of fold 0, 1, ...


@dataclass(frozen=True)
class Event:
    """One song in a scene, from its first to its last sample."""

    label: str
    onset_s: float
    offset_s: float
    low_hz: float
    high_hz: float


@dataclass(frozen=True)
class Scene:
    """A recording and its events.

    Attributes:
        waveform: float32 [n_samples] in +-1, songs and weather.
        songs: float32 [n_samples], the part of `waveform` without weather; exactly zero outside the events.
        events: The songs in order of their onset.
    """

    waveform: np.ndarray
    songs: np.ndarray
    events: tuple[Event, ...]


def make_aviary(
    folder: Path | str,
    *,
    n_species: int = 8,
    clips_per_species: int = 12,
    n_soundscapes: int = 4,
    soundscape_s: float = 60.0,
    seed: int = 0,
) -> Path:
    """Write the synthetic aviary.

    Files are `audio/*.flac` (32 kHz mono, 16 bit), `metadata.csv` (one row per file; sets `aviary` = labeled clips,
    `aviary_soundscape`, `aviary_background` = no birds), `annotations.csv` and `raven/*.txt` (the songs of the
    soundscapes), `classes.txt` (`Scientific name_Common name`) and `ABOUT.txt`. The column `group` holds the
    individual (of a clip) or the recording; no individual is in two folds, nor in both a clip and a soundscape. Every
    fifth soundscape is without birds.

    Args:
        folder: A new or empty folder, or one that holds an aviary of these settings, which is kept.
        n_species: Number of species, 2..12. Default: 8.
        clips_per_species: Clips of 5 s per species, 5 or more (an individual for each of five folds). Default: 12.
        n_soundscapes: Number of long recordings, 0 or more. Default: 4.
        soundscape_s: Length of a soundscape in seconds, 5 or more. Default: 60.
        seed: 0 or more; another seed gives other recordings of the same species. Default: 0.

    Returns:
        The folder.

    Raises:
        UserError: A number is out of range, or the folder holds other files.
    """
    for name, value, low, high in (
        ("n_species", n_species, 2, len(SPECIES)),
        ("clips_per_species", clips_per_species, N_FOLDS, 10_000),
        ("n_soundscapes", n_soundscapes, 0, 10_000),
        ("soundscape_s", soundscape_s, CLIP_S, 3600),
        ("seed", seed, 0, 2**63),
    ):
        if not low <= value <= high:
            raise UserError(f"{name} of the synthetic aviary must be in {low:g}..{high:g}. Received: {value!r}")
    folder = Path(folder)
    about = _about(n_species, clips_per_species, n_soundscapes, soundscape_s, seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        there = folder / "ABOUT.txt"
        if there.is_file() and there.read_bytes() == about.encode():
            return folder
        raise UserError(f"The folder must be new or empty, or hold an aviary of these settings. Received: {folder}")
    with atomic_folder(folder) as part:
        _write(part, SPECIES[:n_species], clips_per_species, n_soundscapes, soundscape_s, seed)
        (part / "ABOUT.txt").write_bytes(about.encode())
    return folder


def synthesize_clip(species: Sequence[Species], which: int, number: int, n_individuals: int, seed: int) -> Scene:
    """Synthesize a clip: songs of one individual, in one of four clips with another species in the background.

    Args:
        species: All species of the aviary.
        which: Index of the species.
        number: Number of the clip within its species.
        n_individuals: Individuals per species; clip `number` is of individual `number % n_individuals`.
        seed: Seed of the aviary.

    Returns:
        The clip, 5 s.
    """
    individual = Individual.draw(species[which], _rng(seed, "individual", which, number % n_individuals))
    rng = _rng(seed, "clip", which, number)
    songs = [synthesize_song(individual, rng) for _ in range(int(rng.integers(1, 4)))]
    n_samples = round(CLIP_S * SAMPLE_RATE_HZ)
    while len(songs) > 1 and sum(len(s.waveform) for s in songs) > 0.9 * n_samples:
        songs.pop()
    spare = n_samples - sum(len(s.waveform) for s in songs)
    gaps = np.floor(rng.dirichlet(np.ones(len(songs) + 1)) * spare).astype(int)
    snr_db = float(rng.uniform(*SNR_DB))
    parts, at = [], 0
    for song, gap in zip(songs, gaps, strict=False):
        parts.append((species[which].latin, song, at + int(gap), snr_db))
        at += int(gap) + len(song.waveform)
    if rng.random() < 0.25:
        other = int((which + rng.integers(1, len(species))) % len(species))
        song = synthesize_song(Individual.draw(species[other], rng), rng)
        onset = int(rng.integers(0, n_samples - len(song.waveform)))
        parts.append((species[other].latin, song, onset, snr_db - float(rng.uniform(6, 14))))
    return _scene(n_samples, parts, rng)


def synthesize_soundscape(species: Sequence[Species], number: int, duration_s: float, seed: int) -> Scene:
    """Synthesize a soundscape: songs of two to six individuals that may overlap; every fifth is without birds.

    Args:
        species: All species of the aviary.
        number: Number of the soundscape.
        duration_s: Length in seconds.
        seed: Seed of the aviary.

    Returns:
        The soundscape.
    """
    rng = _rng(seed, "soundscape", number)
    n_samples = round(duration_s * SAMPLE_RATE_HZ)
    parts: list[tuple[str, Song, int, float]] = []
    if number % N_FOLDS != N_FOLDS - 1:
        present = rng.permutation(len(species))[: int(rng.integers(2, 7))]
        individuals = [Individual.draw(species[which], rng) for which in present]
        for _ in range(max(2, int(rng.poisson(duration_s / 4)))):
            individual = individuals[int(rng.integers(len(individuals)))]
            song = synthesize_song(individual, rng)
            onset = int(rng.integers(0, n_samples - len(song.waveform)))
            parts.append((individual.species.latin, song, onset, float(rng.uniform(*SNR_DB))))
    return _scene(n_samples, sorted(parts, key=lambda part: part[2]), rng)


def synthesize_background(number: int, seed: int) -> Scene:
    """Synthesize recording `number` without birds, 5 s."""
    return _scene(round(CLIP_S * SAMPLE_RATE_HZ), [], _rng(seed, "background", number))


def _rng(seed: int, kind: str, *index: int) -> np.random.Generator:
    # not a random stream of the package, so that every version of the package makes bit-identical recordings
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), *index])


def _scene(n_samples: int, parts: Sequence[tuple[str, Song, int, float]], rng: np.random.Generator) -> Scene:
    """Mix songs (label, song, first sample, SNR in dB within the band of the song) with weather."""
    noise = synthesize_weather(n_samples, rng)
    power = np.concatenate([[0.0], np.cumsum(np.abs(np.fft.rfft(noise)) ** 2)]) * 2 / n_samples**2
    songs = np.zeros(n_samples, np.float32)
    events = []
    for label, song, onset, snr_db in parts:
        low, high = (
            int(hz / SAMPLE_RATE_HZ * n_samples) for hz in (song.low_hz * 0.8, min(song.high_hz * 1.25, 16_000))
        )
        noise_power = power[high] - power[low]
        song_power = float(np.mean(song.waveform.astype(np.float64) ** 2))
        gain = np.sqrt(10 ** (snr_db / 10) * noise_power / song_power)
        offset = onset + len(song.waveform)
        songs[onset:offset] += np.float32(gain) * song.waveform
        events.append(Event(label, onset / SAMPLE_RATE_HZ, offset / SAMPLE_RATE_HZ, song.low_hz, song.high_hz))
    mix = noise + songs
    level = np.float32(10 ** (rng.uniform(-12, -1) / 20) / np.abs(mix).max())
    return Scene(mix * level, songs * level, tuple(events))


def _write(
    folder: Path, species: Sequence[Species], clips_per_species: int, n_soundscapes: int, soundscape_s: float, seed: int
) -> None:
    for name in ("audio", "raven"):
        (folder / name).mkdir()
    rows: list[dict[str, str]] = []
    annotations: list[dict[str, str]] = []
    n_individuals = max(N_FOLDS, clips_per_species // 3)
    for which, row in enumerate(species):
        slug = row.latin.lower().replace(" ", "_")
        for number in range(clips_per_species):
            individual = number % n_individuals
            scene = synthesize_clip(species, which, number, n_individuals, seed)
            labels = ";".join(dict.fromkeys(event.label for event in scene.events))
            group = f"{slug}_i{individual:02d}"
            name = f"aviary_{group}_{number // n_individuals:02d}.flac"
            rows.append(_save(folder, name, "aviary", scene, row.latin, labels, individual % N_FOLDS, group))
    for number in range(n_soundscapes):
        scene = synthesize_soundscape(species, number, soundscape_s, seed)
        labels = ";".join(sorted({event.label for event in scene.events})) or "nocall"
        stem = f"aviary_soundscape_{number:02d}"
        fold = number % N_FOLDS
        rows.append(_save(folder, f"{stem}.flac", "aviary_soundscape", scene, "", labels, fold, stem))
        boxes = [_box(event) for event in scene.events]
        annotations += [
            {**box, "filename": f"{stem}.flac", "set": "aviary_soundscape", "split": _SPLITS[fold]} for box in boxes
        ]
        table = [
            [i, "Spectrogram 1", 1, box["start"], box["end"], box["low_hz"], box["high_hz"], box["label"]]
            for i, box in enumerate(boxes, 1)
        ]
        _table(folder / "raven" / f"{stem}.Table.1.selections.txt", [(*_RAVEN, "Annotation"), *table], "\t")
    for number in range(N_BACKGROUND):
        stem, fold = f"aviary_background_{number:02d}", number % N_FOLDS
        scene = synthesize_background(number, seed)
        rows.append(_save(folder, f"{stem}.flac", "aviary_background", scene, "nocall", "nocall", fold, stem))
    _table(folder / "metadata.csv", [_METADATA, *([row[name] for name in _METADATA] for row in rows)], ",")
    _table(
        folder / "annotations.csv", [_ANNOTATIONS, *([row[name] for name in _ANNOTATIONS] for row in annotations)], ","
    )
    (folder / "classes.txt").write_bytes("".join(f"{row.name}\n" for row in species).encode())


def _save(
    folder: Path, filename: str, kind: str, scene: Scene, label: str, labels: str, fold: int, group: str
) -> dict[str, str]:
    import soundfile as sf

    sf.write(folder / "audio" / filename, scene.waveform, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    duration = f"{len(scene.waveform) / SAMPLE_RATE_HZ:.3f}"
    values = (filename, kind, label, labels, "0.0", duration, duration, _SPLITS[fold], str(fold), group)
    return dict(zip(_METADATA, values, strict=True))


def _box(event: Event) -> dict[str, str]:
    times = {"start": f"{event.onset_s:.6f}", "end": f"{event.offset_s:.6f}"}  # a sample is 31.25 us
    band = {"low_hz": f"{event.low_hz:.1f}", "high_hz": f"{event.high_hz:.1f}"}
    return {**times, **band, "label": event.label, "label_source": "synthetic"}


def _table(path: Path, rows: Iterable[Sequence[object]], delimiter: str) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv_writer(file, delimiter=delimiter).writerows(rows)


def _about(n_species: int, clips_per_species: int, n_soundscapes: int, soundscape_s: float, seed: int) -> str:
    guide = "\n".join(f"  {row.latin} ({row.common})" for row in SPECIES[:n_species])
    return (
        "Synthetic aviary, made by birdnet_fs. Every sound in this folder was computed from formulas; no animal,\n"
        "species name, place or recordist in it is real. It is for demonstrations and tests: scores reached on it\n"
        "say nothing about real birds.\n\n"
        f"n_species={n_species} clips_per_species={clips_per_species} n_soundscapes={n_soundscapes} "
        f"soundscape_s={soundscape_s:g} seed={seed} version=1\n\n"
        f"Species\n{guide}\n"
    )
