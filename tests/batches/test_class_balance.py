"""Class weights against their formulas, and over- and undersampling of the clips of an epoch."""

import numpy as np
import pytest
import tolerances

from birdnet_fs.batches.class_balance import class_weights, clip_weights, epoch_clips, loss_weights

COUNTS = np.array([90, 60, 6, 0])
TARGETS = np.eye(4, dtype=np.float32)[np.repeat(np.arange(4), COUNTS)]


def test_class_weights_follow_their_formulas() -> None:
    """N = 156 clips of 3 classes that have any; the third has under 5 %."""
    inverse = [156 / (3 * 90), 156 / (3 * 60), 156 / (3 * 6)]
    root = [(156 / 90) ** 0.5, (156 / 60) ** 0.5, (156 / 6) ** 0.5]
    effective = [1e-4 / (1 - 0.9999**n) for n in (90, 60, 6)]
    for rule, plain in (("inverse", inverse), ("sqrt_inverse", root), ("effective", effective)):
        for boost in (1.0, 1.5):
            boosted = np.array([*plain[:2], boost * plain[2], 0.0])
            found = class_weights(COUNTS, rule, rare_class_weight=boost)
            np.testing.assert_allclose(found, boosted / boosted.max(), rtol=tolerances.RATE)


def test_loss_weights_average_to_one() -> None:
    weights = loss_weights(TARGETS, "sqrt_inverse", rare_class_weight=1.5)
    assert (weights * TARGETS).sum() / TARGETS.sum() == pytest.approx(1, rel=1e-6)  # float32
    assert weights[2] / weights[0] == pytest.approx(1.5 * 15**0.5, rel=1e-6)
    assert loss_weights(TARGETS, "none") is None


def test_clip_weights_follow_the_rarest_class() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]], np.float32)  # the last one is empty
    weights = clip_weights(targets, "inverse")
    # four, one and one clips of three classes ("none" is the third): 1/4 to 1 to 1
    np.testing.assert_allclose(weights, np.array([0.25, 0.25, 0.25, 1, 1]) / 2.75)
    assert clip_weights(targets, "all") is None


def test_epoch_clips_with_several_labels_are_repeated_for_their_rarest_class() -> None:
    """Classes of 40, 8 and 100 clips; 4 clips have the first two, 4 the last two, 5 none."""
    targets = np.zeros((145, 3), np.float32)
    targets[:40, 0] = targets[36:44, 1] = targets[40:140, 2] = 1
    epochs = [
        epoch_clips(targets, np.random.default_rng(i), min_clips_per_class=20, max_clips_per_class=50)
        for i in range(400)
    ]
    assert len({len(clips) for clips in epochs}) == 1 and (np.diff(epochs[0]) >= 0).all()
    times = np.mean([np.bincount(clips, minlength=145) for clips in epochs], axis=0)
    expected = np.select([np.isin(np.arange(145), range(36, 44)), np.arange(145) < 36], [20 / 8, 1.0], 0.5)
    expected[140:] = 1
    np.testing.assert_allclose(times, expected, atol=tolerances.REPEATED_CLIPS)
    assert all(set(np.bincount(clips, minlength=145)[36:44]) <= {2, 3} for clips in epochs)
    n_of_class = np.mean([targets[clips].sum(0) for clips in epochs], axis=0)
    assert n_of_class[1] == pytest.approx(20, abs=0.2) and (n_of_class >= 19.8).all()
    assert (epochs[0] != epochs[1]).any()
    np.testing.assert_array_equal(epoch_clips(targets, np.random.default_rng(0)), np.arange(145))


def test_epoch_clips_repeat_small_classes_and_draw_from_large_ones() -> None:
    clips = epoch_clips(TARGETS, np.random.default_rng(0), min_clips_per_class=20, max_clips_per_class=60)
    assert np.bincount(TARGETS[clips].argmax(1), minlength=4).tolist() == [60, 60, 20, 0]
    assert sorted(np.bincount(clips)[150:].tolist()) == [3, 3, 3, 3, 4, 4]
    assert np.bincount(clips[clips < 150]).max() == 1
