"""Weights of rare classes by the formulas, and the clips that an epoch is made of."""

from collections import Counter

import numpy as np
import pytest
import tolerances

from birdnet_fs import schema
from birdnet_fs.batches.class_balance import class_weights, clip_weights, epoch_clips, loss_weights
from birdnet_fs.batches.loader import _Order
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream, generator

COUNTS = np.array([90, 60, 6, 0])
TARGETS = np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), COUNTS)]


def test_weights_by_their_formulas() -> None:
    """N = 156 clips of 3 classes that have any; the third has under 5 %."""
    inverse = [156 / (3 * 90), 156 / (3 * 60), 156 / (3 * 6)]
    root = [(156 / 90) ** 0.5, (156 / 60) ** 0.5, (156 / 6) ** 0.5]
    effective = [1e-4 / (1 - 0.9999**n) for n in (90, 60, 6)]
    for rule, plain in (("inverse", inverse), ("sqrt_inverse", root), ("effective", effective)):
        for boost in (1.0, 1.5):
            boosted = np.array([*plain[:2], boost * plain[2], 0.0])
            found = class_weights(COUNTS, rule, rare_class_weight=boost)
            np.testing.assert_allclose(found, boosted / boosted.max(), rtol=tolerances.RATE)


def test_the_loss_keeps_its_size() -> None:
    weights = loss_weights(TARGETS, "sqrt_inverse", rare_class_weight=1.5)
    assert (weights * TARGETS).sum() / TARGETS.sum() == pytest.approx(1, rel=1e-6)  # float32
    assert weights[2] / weights[0] == pytest.approx(1.5 * 15**0.5, rel=1e-6)
    assert loss_weights(TARGETS, "none") is None


def test_clips_are_drawn_by_their_rarest_class() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]], np.float32)  # the last one is empty
    weights = clip_weights(targets, "inverse")
    # four, one and one clips of three classes ("none" is the third): 1/4 to 1 to 1
    np.testing.assert_allclose(weights, np.array([0.25, 0.25, 0.25, 1, 1]) / 2.75)
    assert clip_weights(targets, "all") is None


def order(**settings) -> _Order:
    training = schema.Training(batch_size=10, sampling=schema.Sampling(**settings))
    return _Order(TARGETS, schema.Experiment(seed=3, training=training))


def clips_of(order: _Order, epoch: int = 0) -> list[int]:
    order.epoch = epoch
    return [key.clip for batch in order for key in batch]


def test_all_is_every_clip_in_the_order_of_seed_and_epoch() -> None:
    rng = generator(3, Stream.ORDER, 0)
    assert clips_of(order()) == rng.permutation(156).tolist()
    assert Counter(clips_of(order(crops_per_clip=2))) == dict.fromkeys(range(156), 2)


def test_drawing_makes_classes_come_equally_often() -> None:
    drawn = order(name="inverse", crops_per_clip=4)
    labels = np.concatenate([TARGETS[clips_of(drawn, epoch)].argmax(1) for epoch in range(10)])
    assert len(labels) == 10 * 4 * 156
    shares = np.bincount(labels, minlength=4) / len(labels)
    standard_error = (2 / 9 / len(labels)) ** 0.5
    assert np.abs(shares[:3] - 1 / 3).max() < 4 * standard_error and shares[3] == 0
    assert clips_of(drawn, 5) == clips_of(order(name="inverse", crops_per_clip=4), 5) != clips_of(drawn, 6)


def test_over_and_undersampling() -> None:
    drawn = order(min_clips_per_class=20, max_clips_per_class=60)
    counts = Counter(clips_of(drawn))
    labels = np.repeat(np.arange(4), COUNTS)
    by_class = [sum(n for clip, n in counts.items() if labels[clip] == c) for c in range(4)]
    assert by_class == [60, 60, 20, 0]
    assert sorted(n for clip, n in counts.items() if labels[clip] == 2) == [3, 3, 3, 3, 4, 4]
    assert all(n == 1 for clip, n in counts.items() if labels[clip] != 2)
    assert set(clips_of(drawn, 1)) != set(counts)  # another draw of the large class
    assert len(drawn) == 14


def test_several_labels_cannot_be_counted() -> None:
    with pytest.raises(UserError, match=r"training\.sampling\.min_clips_per_class .* use training\.sampling"):
        epoch_clips(np.array([[1, 1], [0, 1]]), np.random.default_rng(0), min_clips_per_class=3)
