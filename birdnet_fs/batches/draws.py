"""Where the random numbers of one training item come from, and in words what was made of them."""

from typing import Literal, NamedTuple

import numpy as np

ORDER, ITEM, BATCH = 0, 1, 2  # streams of one seed
Random = np.random.Generator


class Key(NamedTuple):
    """One item of an epoch."""

    epoch: int
    place: int  # in the epoch
    clip: int
    batch: int  # number of the items that share what is drawn once for a batch


class Draws:
    """The random numbers of one item: the same for the same seed and key, in any order and in any process.

    Args:
        seed: Of the experiment.
        key: Of the item.

    Attributes:
        rng: The item's own generator.
        words: What was applied, in order, for people; chains add to it.
    """

    def __init__(self, seed: int, key: Key) -> None:
        self.rng: Random = np.random.default_rng((seed, key.epoch, ITEM, key.place))
        self.words: list[str] = []
        self._batch = (seed, key.epoch, BATCH, key.batch)

    def of(self, per: Literal["segment", "batch"], stream: int) -> Random:
        """The item's own generator, or a fresh one that gives all items of a batch the same numbers.

        Args:
            per: Which.
            stream: Number of the change that draws from it, so that two of them do not draw alike.
        """
        return self.rng if per == "segment" else np.random.default_rng((*self._batch, stream))
