"""Clips of two species and "other", in folders as `motifs extract-top-motif` writes them."""

import numpy as np
import soundfile
from soundscapes import RATE

HZ = {"akiapo": 2500, "houfin": 4500}


def song(rng, hz, seconds=5.0):
    """Noise with a sweep that is repeated twice a second."""
    n = round(seconds * RATE)
    x = rng.normal(0, 0.003, n)
    t = np.arange(round(0.25 * RATE)) / RATE
    sweep = 0.05 * np.sin(2 * np.pi * (hz + 800 * t) * t) * np.hanning(len(t))
    for start in range(0, n - len(t), RATE // 2):
        x[start : start + len(t)] += sweep
    return x


def write_motifs(root, n_recordings=24, labels=tuple(HZ)):
    """`root/LABEL/XC.../motif.0.ogg`, and a discord beside each."""
    rng = np.random.default_rng(0)
    for label in labels:
        for number in range(n_recordings):
            folder = root / label / f"XC{number}"
            folder.mkdir(parents=True)
            soundfile.write(folder / "motif.0.ogg", song(rng, HZ[label]), RATE)
            if number < 2:
                soundfile.write(folder / "discord.0.ogg", rng.normal(0, 0.1, RATE), RATE)
