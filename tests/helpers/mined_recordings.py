"""Recordings in which a phrase occurs twice, in folders of classes, and their mined folder."""

from pathlib import Path

import numpy as np
import soundfile

from birdnet_fs.motifs.extraction import extract_motifs
from birdnet_fs.motifs.features import FeatureSettings
from birdnet_fs.motifs.mining import MiningSettings

RATE_HZ = 32_000
SECONDS, FIRST_S, SECOND_S, PHRASE_S = 4.0, 0.7, 2.6, 0.8
SETTINGS = MiningSettings(FeatureSettings("logmel", 50.0), 30, louder_half=True)  # windows of .6 s


def phrase(seed: int) -> np.ndarray:
    """A sequence of eight tones."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(PHRASE_S * RATE_HZ / 8)) / RATE_HZ
    return np.concatenate([np.sin(2 * np.pi * f * t) * np.hanning(len(t)) for f in rng.uniform(1500, 8000, 8)])


def recording(seed: int) -> np.ndarray:
    """Noise of changing color, and the same phrase twice."""
    rng = np.random.default_rng((seed, 1))
    waveform = 0.02 * rng.standard_normal(round(SECONDS * RATE_HZ))
    for start_s in (FIRST_S, SECOND_S):
        at = round(start_s * RATE_HZ)
        tones = phrase(seed)
        waveform[at : at + len(tones)] += 0.4 * tones
    return waveform.astype(np.float32)


def write_recordings(root: Path) -> dict[Path, str]:
    """Two recordings of each of two classes, a short one and a silent one; with the names of their mined folders."""
    waveforms = {
        **{f"{label}/{i}.wav": recording(10 * j + i) for j, label in enumerate(("owl", "wren")) for i in range(2)},
        "wren/short.wav": recording(5)[: RATE_HZ // 4],
        "wren/silent.wav": np.zeros(2 * RATE_HZ, np.float32),
    }
    for name, waveform in waveforms.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, waveform, RATE_HZ)
    return {root / name: name.removesuffix(".wav") for name in waveforms}


def mined(folder: Path) -> Path:
    """The recordings in `folder/in`, mined in `folder/mined`."""
    extract_motifs(write_recordings(folder / "in"), folder / "in", folder / "mined", SETTINGS)
    return folder / "mined"
