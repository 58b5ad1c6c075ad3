"""Sampling of clips with pseudo-labels, that is labels of a model, in training."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PseudoLabelSampling:
    """Rate at which pseudo-labeled clips are drawn; in a list of clips they follow the labeled ones.

    Attributes:
        n_labeled: Number of labeled clips, and so the index of the first pseudo-labeled one.
        draw_probabilities: Probability of each pseudo-labeled clip in one draw, float64 [n_pseudo_labeled], sum 1.
        amount: Pseudo-labeled items in an epoch per labeled item.
        mix: Probability in 0..1 that a pseudo-labeled clip is mixed into a labeled item.
    """

    n_labeled: int
    draw_probabilities: np.ndarray
    amount: float
    mix: float

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw pseudo-labeled clips with replacement.

        Args:
            n: Number of clips.
            rng: Generator to draw from.

        Returns:
            Indices of the clips, int64 [n], `n_labeled` or more.
        """
        return self.n_labeled + rng.choice(len(self.draw_probabilities), n, p=self.draw_probabilities)

    def shuffled_with(self, clips: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Labeled clips of an epoch and drawn pseudo-labeled ones, in random order.

        Args:
            clips: Indices of labeled clips, int64 [n].
            rng: Generator to draw from.

        Returns:
            Indices of clips, int64 [n + round(amount * n)].
        """
        return rng.permutation(np.concatenate([clips, self.draw(round(self.amount * len(clips)), rng)]))
