"""Training clips that runs labeled, not people: which of them an epoch hears, and how often."""

from dataclasses import dataclass

import numpy as np

from birdnet_fs.batches.augment.rng import Generator


@dataclass(frozen=True)
class UnlabeledClips:
    """The clips behind the labeled ones.

    Attributes:
        n_labeled: Number of the first of them; all before it are labeled.
        probabilities: How often each is drawn, float64 [n], sum 1.
        amount: Of them in an epoch, for each labeled item.
        mix: Chance that a labeled item has one of them mixed in.
    """

    n_labeled: int
    probabilities: np.ndarray
    amount: float
    mix: float

    def draw(self, n: int, rng: Generator) -> np.ndarray:
        """The numbers of `n` of them, any of them several times."""
        return self.n_labeled + rng.choice(len(self.probabilities), n, p=self.probabilities)

    def mixed_into(self, clips: np.ndarray, rng: Generator) -> np.ndarray:
        """The labeled items of an epoch and as many of these as it has, in random order."""
        return rng.permutation(np.concatenate([clips, self.draw(round(self.amount * len(clips)), rng)]))
