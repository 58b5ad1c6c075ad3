"""Training clips that runs labelled, not people: which of them an epoch hears, and how often."""

from dataclasses import dataclass

import numpy as np

from birdnet_fs.batches.augment.rng import Random


@dataclass(frozen=True)
class Unlabelled:
    """The clips behind the labelled ones.

    Attributes:
        first: Number of the first of them; all before it are labelled.
        chance: How often each is drawn, float64 [n], sum 1.
        amount: Of them in an epoch, for each labelled item.
        mix: Chance that a labelled item has one of them mixed in.
    """

    first: int
    chance: np.ndarray
    amount: float
    mix: float

    def drawn(self, n: int, rng: Random) -> np.ndarray:
        """The numbers of `n` of them, any of them several times."""
        return self.first + rng.choice(len(self.chance), n, p=self.chance)

    def beside(self, clips: np.ndarray, rng: Random) -> np.ndarray:
        """The labelled items of an epoch and as many of these as it has, in random order."""
        return rng.permutation(np.concatenate([clips, self.drawn(round(self.amount * len(clips)), rng)]))
