"""Sampling of episodes: distinct numbers, divisible recordings, and clips by recording."""

import itertools

import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.episode_sampling import (
    Items,
    divisible,
    draw_across_recordings,
    draw_distinct,
    draw_within_recordings,
)

LABELS = np.repeat(["a", "b", "c"], 8)
GROUPS = np.array([f"{label}{i % 4}" for i, label in enumerate(LABELS)])


@pytest.mark.parametrize("seed", range(20))
def test_divisible_equals_trying_all_divisions(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 6, rng.integers(1, 7))
    for n_shot, n_query in itertools.product(range(1, 8), repeat=2):
        sides = itertools.product((False, True), repeat=len(counts))
        tried = any(counts[list(s)].sum() >= n_shot and counts[[not x for x in s]].sum() >= n_query for s in sides)
        assert divisible(counts, n_shot, n_query) == tried, (counts, n_shot, n_query)


def test_items_are_sorted_by_class_and_recording():
    items = Items(["b", "a", "a", "b"], ["x", "y", "x", "x"])
    assert items.names == ("a", "b") and items.order.tolist() == [2, 1, 0, 3]
    assert items.n_in_cell.tolist() == [1, 1, 2] and items.first_cell.tolist() == [0, 2, 3]
    assert items.share.tolist() == [[True, True], [True, True]]


def test_draw_distinct_gives_all_ordered_pairs_equally_often():
    drawn = draw_distinct(np.random.default_rng(0), np.full(12_000, 4), 2)
    pairs, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(pairs) == 12 and (pairs[:, 0] != pairs[:, 1]).all()
    assert np.abs(counts - 1000).max() < tolerances.BINOMIAL_ERRORS * np.sqrt(1000 * 11 / 12)


def test_clips_of_a_class_come_from_one_recording_with_within():
    items, classes = Items(LABELS, GROUPS), np.tile([[0, 2]], (200, 1))
    clips = items.order[draw_within_recordings(np.random.default_rng(0), items, classes, 2)]
    assert (LABELS[clips] == np.array(["a", "c"])[None, :, None]).all()
    assert (GROUPS[clips[..., 0]] == GROUPS[clips[..., 1]]).all() and (clips[..., 0] != clips[..., 1]).all()
    assert len(np.unique(GROUPS[clips])) == 8


def test_support_and_query_share_no_recording_with_across():
    items, classes = Items(LABELS, GROUPS), np.tile([[0, 1, 2]], (200, 1))
    found, places = draw_across_recordings(np.random.default_rng(0), items, classes, 2, 3)
    clips = items.order[places]
    assert (found == classes).all() and (LABELS[clips] == np.array(["a", "b", "c"])[None, :, None]).all()
    for support, query in zip(GROUPS[clips[..., :2]], GROUPS[clips[..., 2:]], strict=True):
        assert not set(support.ravel()) & set(query.ravel())


def test_episodes_that_cannot_be_divided_are_refused():
    items = Items(["a", "a", "b", "b", "c", "c"], ["1", "2", "2", "3", "3", "1"])
    with pytest.raises(UserError, match=r"5 of 5 episodes could not be drawn.*such as those of"):
        draw_across_recordings(np.random.default_rng(0), items, np.tile([[0, 1, 2]], (5, 1)), 1, 1)
