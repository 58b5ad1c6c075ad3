"""Where the random numbers of one training item come from, and in words what was made of them."""

from typing import Literal, NamedTuple

import numpy as np

from birdnet_fs.core.random_streams import Stream, generator

Generator = np.random.Generator


class Key(NamedTuple):
    """One item of an epoch."""

    epoch: int
    place: int  # in the epoch
    clip: int
    batch: int  # number of the items that share what is drawn once for a batch


class ItemRandom:
    """The random numbers of one item: the same for the same seed and key, in any order and in any process.

    Args:
        seed: Of the experiment.
        key: Of the item.

    Attributes:
        rng: The item's own generator.
        changes: What was applied, in order, for people; chains add to it.
    """

    def __init__(self, seed: int, key: Key) -> None:
        self.rng: Generator = generator(seed, Stream.AUGMENTATION, key.epoch, key.place)
        self.changes: list[str] = []
        self._seed, self._key = seed, key

    def generator(self, per: Literal["segment", "batch"], stream: Stream) -> Generator:
        """The item's own generator, or a fresh one that gives all items of a batch the same numbers.

        Args:
            per: Which.
            stream: Which change draws what a batch shares, one of `Stream.BATCH_...`.
        """
        if per == "segment":
            return self.rng
        return generator(self._seed, stream, self._key.epoch, self._key.batch)
