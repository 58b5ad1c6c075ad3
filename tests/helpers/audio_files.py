"""Signals and audio files for tests of reading."""

import numpy as np
import soundfile as sf

RATE = 32_000


def chirps(seconds, rate, seed=0):
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(t))
    return (0.4 * np.sin(2 * np.pi * (rate / 12) * t * (1 + 0.2 * np.sin(3 * t))) + 0.05 * noise).astype(np.float32)


def write(path, signal, rate, **kind):
    with sf.SoundFile(path, "w", rate, 1 if signal.ndim == 1 else signal.shape[1], **kind) as file:
        for at in range(0, len(signal), rate):  # libsndfile's Vorbis writer overflows its stack on long blocks
            file.write(signal[at : at + rate])
    return path
