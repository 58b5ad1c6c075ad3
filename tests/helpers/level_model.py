"""A model whose probabilities are known functions of the level of a window, and recordings of known level."""

import numpy as np
import soundfile

from birdnet_fs import schema
from birdnet_fs.inference.engine import Engine

RATE = 8_000
SPEC = schema.FrontEnd(
    sample_rate_hz=RATE, segment_s=1.0, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
CLASSES = ("Turdus merula_Eurasian Blackbird", "Parus major_Great Tit", "bird0_0")


class LevelModel:
    """A model that scores the level of a window; counts the windows, and can interrupt after some of them."""

    def __init__(self, stop_after=10**9):
        self.n_windows, self.stop_after = 0, stop_after

    def forward(self, waveforms):
        self.n_windows += len(waveforms)
        if self.n_windows > self.stop_after:
            raise KeyboardInterrupt
        wide = waveforms.astype(np.float64)
        halves = np.split(wide, 2, axis=1)
        parts = [wide.std(1), halves[0].std(1), halves[1].std(1)]
        return (60 * np.stack(parts, axis=1) - 6).astype(np.float32)  # a level of 0.1 is a probability of 0.5

    @property
    def engine(self):
        return Engine(CLASSES, SPEC, "sigmoid", "fake 1", self.forward)


def write_wav(path, seconds, seed=0, level=0.1):
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = np.random.default_rng(seed).normal(0, level, round(seconds * RATE)).clip(-1, 1)
    soundfile.write(path, signal, RATE, subtype="PCM_16")
    return path


def square(path, levels):
    """One second of +-level for each level: the standard deviation of every window is known."""
    signal = np.concatenate([np.tile([level, -level], RATE // 2) for level in levels])
    soundfile.write(path, signal, RATE, subtype="PCM_16")
