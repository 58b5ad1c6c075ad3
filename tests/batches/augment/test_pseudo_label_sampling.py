"""Sampling of pseudo-labeled clips: indices, proportions and numbers."""

import numpy as np

from birdnet_fs.batches.augment.pseudo_label_sampling import PseudoLabelSampling

SAMPLING = PseudoLabelSampling(n_labeled=10, draw_probabilities=np.array([0.5, 0.3, 0.2, 0.0]), amount=0.5, mix=0.0)


def test_draw_follows_the_probabilities_behind_the_labeled_clips() -> None:
    drawn = SAMPLING.draw(20_000, np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=14)[10:] / len(drawn)
    assert drawn.min() == 10 and shares[3] == 0
    assert np.abs(shares - SAMPLING.draw_probabilities).max() < 4 * np.sqrt(0.25 / len(drawn))


def test_shuffled_with_adds_the_amount_in_random_order() -> None:
    labeled = np.arange(9)
    clips = SAMPLING.shuffled_with(labeled, np.random.default_rng(0))
    assert len(clips) == 9 + 4 and sorted(clips[clips < 10]) == labeled.tolist()  # round(4.5)
    assert clips[:9].tolist() != labeled.tolist()
    assert clips.tolist() == SAMPLING.shuffled_with(labeled, np.random.default_rng(0)).tolist()
