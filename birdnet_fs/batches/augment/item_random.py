"""Random generators of one training item, and a description of the changes that were drawn from them."""

from typing import Literal, NamedTuple

import numpy as np

from birdnet_fs.core.random_streams import Stream, generator

ANY_CLIP = -1


class ItemKey(NamedTuple):
    """Identifies one item of an epoch."""

    epoch: int  # from 0
    position: int  # in the order of the epoch, from 0
    clip: int  # index of the clip
    batch: int  # items with the same number share what is drawn once per batch
    partner: int | None = (
        ANY_CLIP  # index of the clip that is mixed in; ANY_CLIP: drawn from all; None: nothing is mixed
    )


class ItemRandom:
    """Random generators of one item: the same for the same seed and key, in any order and in any process.

    Args:
        seed: Seed of the experiment.
        key: The item.
        rng: Generator of the item. Default: None, that of the epoch and position of the key.

    Attributes:
        key: The item.
        rng: Generator of the item.
        changes: Description of each change that was applied, in order; every stage appends its own.
    """

    def __init__(self, seed: int, key: ItemKey, rng: np.random.Generator | None = None) -> None:
        self.rng = generator(seed, Stream.AUGMENTATION, key.epoch, key.position) if rng is None else rng
        self.changes: list[str] = []
        self._seed, self.key = seed, key

    def generator(self, per: Literal["segment", "batch"], stream: Stream) -> np.random.Generator:
        """Generator for a change that is drawn per segment or once per batch.

        Args:
            per: "segment" or "batch".
            stream: The change, one of `Stream.BATCH_...`; used for "batch" only.

        Returns:
            `rng` for "segment"; for "batch" a new generator that gives all items of the batch the same numbers.
        """
        if per == "segment":
            return self.rng
        return generator(self._seed, stream, self.key.epoch, self.key.batch)
