"""Episodes: their clips and recordings, uniform probabilities, and settings that cannot be drawn."""

import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.episodes import (
    RECORDINGS,
    draw_episodes,
    draw_evaluation_episodes,
    undrawable_classes,
)


def items(n_classes: int, n_recordings: int, n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Clips of any class in any recording: most recordings hold several classes."""
    rng = np.random.default_rng(seed)
    return (
        [f"species {c}" for c in rng.integers(0, n_classes, n)],
        [f"tape {r}" for r in rng.integers(0, n_recordings, n)],
    )


@pytest.mark.parametrize("recordings", RECORDINGS)
@pytest.mark.parametrize(("n_way", "n_shot", "n_query"), [(2, 1, 1), (5, 1, 5), (8, 5, 3)])
def test_episodes_have_distinct_clips_of_the_right_classes_and_recordings(recordings, n_way, n_shot, n_query):
    labels, groups = items(8, 12, 2500)
    episodes = draw_episodes(
        labels, groups, n_way=n_way, n_shot=n_shot, n_query=n_query, n_episodes=200, seed=3, recordings=recordings
    )
    assert episodes.names == tuple(sorted(set(labels))) and episodes.recordings == recordings
    assert episodes.support.shape == (200, n_way, n_shot) and episodes.query.shape == (200, n_way, n_query)
    for classes, support, query in zip(episodes.classes, episodes.support, episodes.query, strict=True):
        assert len(set(classes.tolist())) == n_way
        everything = [*support.ravel().tolist(), *query.ravel().tolist()]
        assert len(set(everything)) == len(everything)
        for c, own_support, own_query in zip(classes, support, query, strict=True):
            assert {labels[i] for i in (*own_support, *own_query)} == {episodes.names[c]}
            if recordings == "within":
                assert len({groups[i] for i in (*own_support, *own_query)}) == 1
        if recordings == "across":
            assert not {groups[i] for i in support.ravel()} & {groups[i] for i in query.ravel()}


def test_recordings_are_kept_apart_by_default():
    labels, groups = ["a"] * 4 + ["b"] * 4, ["1", "1", "2", "2", "3", "3", "4", "4"]
    episodes = draw_episodes(labels, groups, n_way=2, n_shot=2, n_query=2, n_episodes=50, seed=0)
    for support, query in zip(episodes.support, episodes.query, strict=True):
        assert not {groups[i] for i in support.ravel()} & {groups[i] for i in query.ravel()}


def test_same_arguments_give_the_same_episodes():
    labels, groups = items(6, 40, 600)
    first, again, other_epoch, other_seed = (
        draw_episodes(labels, groups, n_way=4, n_shot=2, n_query=2, n_episodes=20, seed=seed, epoch=epoch)
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert np.array_equal(first.support, again.support) and np.array_equal(first.query, again.query)
    assert not np.array_equal(first.support, other_epoch.support)
    assert not np.array_equal(first.support, other_seed.support)


@pytest.mark.parametrize("recordings", ["across", "any"])
def test_every_episode_is_equally_likely(recordings):
    """Three classes of four clips, each its own recording: 6 ordered pairs of classes, 12 of clips in each class."""
    labels = [name for name in "abc" for _ in range(4)]
    episodes = draw_episodes(
        labels,
        [str(i) for i in range(12)],
        n_way=2,
        n_shot=1,
        n_query=1,
        n_episodes=60_000,
        seed=0,
        recordings=recordings,
    )
    pairs, counts = np.unique(episodes.classes, axis=0, return_counts=True)
    assert len(pairs) == 6
    assert np.abs(counts - 10_000).max() < tolerances.BINOMIAL_ERRORS * np.sqrt(10_000 * 5 / 6)
    clips = np.concatenate([episodes.support, episodes.query], axis=2).reshape(-1, 2)
    pairs, counts = np.unique(clips, axis=0, return_counts=True)
    assert len(pairs) == 3 * 12
    assert np.abs(counts - 120_000 / 36).max() < tolerances.BINOMIAL_ERRORS * np.sqrt(120_000 / 36)


def test_recordings_of_several_classes_are_on_one_side_for_all_of_them():
    """Two recordings, both with both classes: one is the support of all, the other the query of all."""
    labels, groups = ["a", "b", "a", "b"], ["1", "1", "2", "2"]
    episodes = draw_episodes(labels, groups, n_way=2, n_shot=1, n_query=1, n_episodes=100, seed=0)
    sides = {tuple(sorted({groups[i] for i in support.ravel()})) for support in episodes.support}
    assert sides == {("1",), ("2",)}


def test_classes_that_share_recordings_in_a_ring_cannot_be_in_one_episode():
    """a in 1 and 2, b in 2 and 3, c in 3 and 1: any two classes can be divided, all three cannot."""
    labels, groups = ["a", "a", "b", "b", "c", "c"], ["1", "2", "2", "3", "3", "1"]
    pairs = draw_episodes(labels, groups, n_way=2, n_shot=1, n_query=1, n_episodes=300, seed=0)
    assert {frozenset(pair) for pair in pairs.classes.tolist()} == {frozenset(p) for p in ((0, 1), (1, 2), (0, 2))}
    with pytest.raises(UserError, match=r"10 of 10 episodes could not be drawn.*a smaller n_way"):
        draw_episodes(labels, groups, n_way=3, n_shot=1, n_query=1, n_episodes=10, seed=0)


def test_undrawable_classes_have_a_reason():
    labels = ["wren"] * 3 + ["owl"] * 6 + ["jay"] * 6 + ["tit"] * 6
    groups = ["w1", "w2", "w3", *["o"] * 6, "j1", *["j2"] * 5, *["t1"] * 3, *["t2"] * 3]
    assert undrawable_classes(labels, groups, n_shot=3, n_query=3) == {
        "jay": "has 2 recordings that cannot be divided into 3 and 3 clips",
        "owl": "has one recording only",
        "wren": "has 3 clips, fewer than the 6 of an episode",
    }
    assert list(undrawable_classes(labels, groups, n_shot=3, n_query=3, recordings="any")) == ["wren"]
    assert undrawable_classes(labels, groups, n_shot=1, n_query=3, recordings="within") == {
        "tit": "has at most 3 clips in a recording, fewer than the 4 of an episode",
        "wren": "has 3 clips, fewer than the 4 of an episode",
    }


def test_evaluation_episodes_equal_those_drawn_separately():
    labels, groups = items(5, 20, 500)
    asked = {"n_way": 3, "n_shot": 1, "n_query": 2, "n_episodes": 10, "seed": 4}
    found = draw_evaluation_episodes(labels, groups, **asked)
    assert not found.reasons and not found.left_out
    for episodes, recordings in zip(found.drawn, ("across", "within"), strict=True):
        alone = draw_episodes(labels, groups, recordings=recordings, stream=Stream.EVALUATION_EPISODES, **asked)
        assert np.array_equal(episodes.support, alone.support) and np.array_equal(episodes.query, alone.query)


def test_episodes_of_training_validation_and_test_differ():
    labels, groups = items(5, 20, 500)
    asked = {"n_way": 3, "n_shot": 1, "n_query": 2, "n_episodes": 10, "seed": 4}
    streams = (Stream.TRAINING_EPISODES, Stream.VALIDATION_EPISODES, Stream.TEST_EPISODES, Stream.EVALUATION_EPISODES)
    drawn = [draw_episodes(labels, groups, stream=stream, **asked) for stream in streams]
    assert len({episodes.query.tobytes() for episodes in drawn}) == len(streams)


def test_evaluation_without_one_kind_of_episodes_gives_the_reason():
    asked = {"n_way": 2, "n_shot": 1, "n_query": 1, "n_episodes": 10, "seed": 0}
    found = draw_evaluation_episodes(list("aabb"), list("1234"), **asked)
    assert [episodes.recordings for episodes in found.drawn] == ["across"]
    assert "at most 1 clips in a recording" in found.reasons["within"]
    found = draw_evaluation_episodes(list("aabb"), list("1111"), **asked)
    assert [episodes.recordings for episodes in found.drawn] == ["within"]
    assert "a has one recording only" in found.reasons["across"]
    found = draw_evaluation_episodes(list("aabb"), list("1234"), **{**asked, "n_way": 3})
    assert not found.drawn and "needs at least 3 classes" in found.reasons["across"]
    with pytest.raises(UserError, match="n_way must be 2 or more"):
        draw_evaluation_episodes(list("aabb"), list("1234"), **{**asked, "n_way": 1})


def test_evaluation_leaves_out_classes_with_too_few_clips():
    """Three classes of four clips, one of a single clip and one with all clips of one recording."""
    labels = [*("owl", "tit", "wren") * 4, "rook", *["robin"] * 4]
    groups = [f"{label}{i}" for i, label in enumerate(labels[:13])] + ["robin"] * 4
    asked = {"n_way": 3, "n_shot": 1, "n_query": 2, "n_episodes": 50, "seed": 0}
    found = draw_evaluation_episodes(labels, groups, **asked)
    (episodes,) = found.drawn
    assert found.left_out == {
        "across": {"robin": "has one recording only", "rook": "has 1 clips, fewer than the 3 of an episode"}
    }
    assert episodes.names == ("owl", "tit", "wren")
    for clips in (episodes.support, episodes.query):
        assert (np.array(labels)[clips] == np.array(episodes.names)[episodes.classes][..., None]).all()
    assert "1 of 5 have them" in found.reasons["within"]
    more = draw_evaluation_episodes(labels, groups, **{**asked, "n_way": 4})
    assert not more.drawn and "n_way=4 needs 4 classes with enough clips, and 3 of 5" in more.reasons["across"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_shot": 5}, r"n_shot=5 .*: a has 4 clips, fewer than the 6 of an episode; b has 4 clips.*Add clips"),
        ({"n_way": 3}, r"n_way=3 needs at least 3 classes.*Received: 2 classes"),
        ({"n_way": 1}, r"n_way must be 2 or more.*Received: 1, 1, 1, 10"),
        ({"n_query": 0}, r"n_query and n_episodes 1 or more"),
        ({"recordings": "accross"}, r"Did you mean 'across'\?"),
        ({"groups": ["1"] * 8}, r"a has one recording only; b has one recording only"),
        ({"groups": ["1"] * 7}, r"labels and groups must have the same length.*Received: 8 and 7"),
        ({"labels": [], "groups": []}, r"same length, 1 or more"),
    ],
)
def test_settings_that_cannot_be_drawn_are_refused(settings, message):
    given = {"labels": list("aaaabbbb"), "groups": list("12345678"), "n_way": 2, "n_shot": 1, "n_query": 1}
    with pytest.raises(UserError, match=message):
        draw_episodes(**{**given, "n_episodes": 10, "seed": 0, **settings})
