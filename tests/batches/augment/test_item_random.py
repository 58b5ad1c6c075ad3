"""Generators of an item: what they depend on, and what a batch shares."""

import numpy as np

from birdnet_fs.batches.augment.item_random import ItemKey, ItemRandom
from birdnet_fs.core.random_streams import Stream, generator


def test_rng_depends_on_seed_epoch_and_position_alone() -> None:
    first = ItemRandom(3, ItemKey(1, 5, 7, 2)).rng.random(4).tolist()
    assert first == generator(3, Stream.AUGMENTATION, 1, 5).random(4).tolist()
    assert ItemRandom(3, ItemKey(1, 5, 8, 9)).rng.random(4).tolist() == first
    others = [(4, ItemKey(1, 5, 7, 2)), (3, ItemKey(2, 5, 7, 2)), (3, ItemKey(1, 6, 7, 2))]
    assert all(ItemRandom(seed, key).rng.random(4).tolist() != first for seed, key in others)


def test_batch_generator_is_shared_by_the_items_of_a_batch_and_differs_between_streams() -> None:
    items = [ItemRandom(3, ItemKey(1, position, position, position // 2)) for position in range(4)]
    shared = [float(item.generator("batch", Stream.BATCH_MIXUP).random()) for item in items]
    assert shared[0] == shared[1] != shared[2] == shared[3]
    assert float(items[0].generator("batch", Stream.BATCH_TIME_MASKS).random()) != shared[0]
    assert items[0].generator("segment", Stream.BATCH_MIXUP) is items[0].rng


def test_batch_draws_leave_the_generator_of_the_item_alone() -> None:
    item, other = (ItemRandom(0, ItemKey(0, 0, 0, 0)) for _ in range(2))
    item.generator("batch", Stream.BATCH_MIXUP).random(10)
    np.testing.assert_array_equal(item.rng.random(5), other.rng.random(5))
    assert item.changes == []
