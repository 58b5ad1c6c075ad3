"""Triplets of tones for Tile2Vec, and settings of a short training on them."""

import numpy as np

from birdnet_fs.data.ledger import Ledger
from birdnet_fs.motifs.tile2vec.settings import Tile2VecSettings
from birdnet_fs.motifs.tile2vec.sources import Segments

SETTINGS = Tile2VecSettings(
    epochs=2, n_batches=3, batch_size=4, schedule="constant", val_fraction=0.2, augment=False, threads=1, patience=0
)


class Tones:
    """Recordings of a tone each, with noise; anchor and neighbor are of one recording."""

    def __init__(self) -> None:
        self.recordings = self.held_out_with = np.repeat(np.arange(10), 2)
        self.ledger, self.identity, self.files = Ledger(), "tones", ()
        self.ledger.add("tone.wav", "ok")

    def segments(self, rows: np.ndarray, rng: np.random.Generator, shift_s: float) -> Segments:
        numbers = self.recordings[rows]
        tones = [self._tones(n, rng) for n in (numbers, numbers, (numbers + 3) % 10)]
        return Segments(*tones, numbers)

    def _tones(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        t = np.arange(160_000, dtype=np.float32) / 32_000
        tones = np.sin(2 * np.pi * t * (800 * (1 + numbers[:, None])).astype(np.float32))
        return (0.1 * tones + 0.01 * rng.standard_normal(tones.shape)).astype(np.float32)
