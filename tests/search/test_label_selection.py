"""What to label next: definitions on small stores, against brute force, and no window twice."""

import numpy as np
import pytest
from embedding_store import store_of

from birdnet_fs.core.errors import UserError
from birdnet_fs.search import label_selection as module
from birdnet_fs.search.label_selection import ClassScores, Labeled, select_windows


def columns(*names, activation="sigmoid"):
    """The first values of an embedding are the scores."""
    return ClassScores(names, lambda embeddings: embeddings[:, : len(names)].copy(), activation)


@pytest.fixture
def store():
    """400 windows whose first two values are scores of two classes; the others place them."""
    rng = np.random.default_rng(0)
    return store_of(np.concatenate([rng.uniform(0, 1, (400, 2)), rng.normal(size=(400, 6))], axis=1))


def test_diversity_is_farthest_first_from_what_is_labeled(store):
    rows = store.embeddings()
    unit = rows - rows.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similar = (unit @ unit.T).astype(np.float64)
    taken, expected = [3, 5], []
    for _ in range(6):
        nearest = similar[:, taken].max(axis=1)
        nearest[taken] = np.inf
        expected.append(int(nearest.argmin()))
        taken.append(expected[-1])
    # the mean is that of the windows that are left to choose from, here all but two
    found = select_windows(store, 6, by="diversity", labeled=Labeled(np.array([3, 5])))
    assert [each.row for each in found][:3] == expected[:3]
    assert {each.chosen_as for each in found} == {"different"} and all(each.class_index == -1 for each in found)


def test_diversity_spreads_over_groups_of_equal_sounds():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(5, 8))
    store = store_of(np.repeat(centers, [96, 1, 1, 1, 1], axis=0) + 0.01 * rng.normal(size=(100, 8)))
    found = select_windows(store, 5, by="diversity")
    assert {max(0, each.row - 95) for each in found} == {0, 1, 2, 3, 4}


def test_top_quantile_takes_turns_between_the_best_and_the_quantiles(store):
    found = select_windows(store, 40, by="top-quantile", scores=columns("owl", "tit"))
    scores = store.embeddings()[:, :2]
    assert len({each.row for each in found}) == 40
    for index in (0, 1):
        best = set(np.argsort(-scores[:, index])[: module.N_TOP + 40].tolist())
        of_class = [each for each in found if each.class_index == index]
        tops = [each for each in of_class if each.chosen_as == "top"]
        quantiles = [each for each in of_class if each.chosen_as.startswith("quantile ")]
        assert tops and all(each.row in best for each in tops)
        assert len(quantiles) + len(tops) == len(of_class)
        for each in quantiles:
            share = (scores[:, index] < each.score).mean()
            assert abs(share - float(each.chosen_as.split()[1])) < 0.2
        assert np.ptp([each.score for each in quantiles]) > 0.5
    counts = np.bincount([each.class_index for each in found])
    assert counts.min() >= 15


def test_the_class_with_the_fewest_labels_comes_first(store):
    labeled = Labeled(np.array([0, 1]), [50, 0])
    found = select_windows(store, 10, by="top-quantile", scores=columns("owl", "tit"), labeled=labeled)
    assert {each.class_index for each in found} == {1} and not {0, 1} & {each.row for each in found}


def test_a_class_without_scores_gets_the_window_that_is_farthest(store):
    known = columns("owl", "tit")

    def score(embeddings):
        given = known.score(embeddings)
        given[:, 1] = np.nan
        return given

    found = select_windows(store, 4, by="top-quantile", scores=ClassScores(known.names, score, "sigmoid"))
    assert {each.chosen_as for each in found if each.class_index == 1} == {"different"}
    assert {each.class_index for each in found} == {0, 1}


def test_repeated_sounds_are_not_asked_for_again():
    """One of thirty copies of a sound is labeled; the thirty best others are its copies and one other sound."""
    rng = np.random.default_rng(0)
    scores = np.concatenate([np.repeat([[0.9]], 30, 0), [[0.8]], rng.uniform(0, 0.5, (170, 1))])
    place = np.concatenate([np.ones((30, 3)), [[-1.0, 1, 1]], rng.normal(size=(170, 3))])
    store = store_of(np.concatenate([scores, place], axis=1))
    found = select_windows(store, 4, by="top-quantile", scores=columns("owl"), labeled=Labeled(np.array([0])))
    assert min(each.row for each in found) == 30


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_uncertainty_is_the_highest_entropy(activation):
    sure, unsure = [0.99, 0.01], [0.5, 0.5]
    rng = np.random.default_rng(1)
    scores = np.repeat([sure, unsure], [40, 10], axis=0)
    store = store_of(np.concatenate([scores, rng.normal(size=(50, 4))], axis=1))
    given = columns("owl", "tit", activation=activation)
    found = select_windows(store, 2, by="uncertainty", scores=given, labeled=Labeled(np.array([49])))
    assert all(40 <= each.row < 49 for each in found) and {each.chosen_as for each in found} == {"uncertain"}


@pytest.mark.parametrize("by", module.STRATEGIES)
def test_all_windows_are_chosen_once_and_in_the_same_order_again(store, by):
    few = store_of(store.embeddings(np.arange(30)))
    few.recording[7] = -1
    found = select_windows(few, 99, by=by, scores=columns("owl", "tit"), labeled=Labeled(np.array([2]), [1, 0]))
    assert sorted(each.row for each in found) == [row for row in range(30) if row not in (2, 7)]
    again = select_windows(few, 99, by=by, scores=columns("owl", "tit"), labeled=Labeled(np.array([2]), [1, 0]))
    assert [each.row for each in again] == [each.row for each in found]


def test_a_sample_stands_for_a_large_store(store, monkeypatch):
    monkeypatch.setattr(module, "N_SAMPLE", 50)
    found = select_windows(store, 20, by="top-quantile", scores=columns("owl", "tit"))
    best = set(np.argsort(-store.embeddings()[:, 0])[: module.N_TOP + 20].tolist())
    assert all(each.row in best for each in found if each.chosen_as == "top" and each.class_index == 0)
    assert len(select_windows(store, 60, by="diversity")) == 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "chance"}, "--by must be one of top-quantile, uncertainty, diversity"),
        ({"by": "top-quantile"}, "needs a run or examples"),
        ({"by": "uncertainty", "scores": columns("a", activation="")}, "needs the probabilities of a run"),
        ({"by": "diversity", "labeled": Labeled(np.arange(400))}, "All windows of the store are labeled"),
    ],
)
def test_what_cannot_be_chosen_is_refused(store, options, message):
    with pytest.raises(UserError, match=message):
        select_windows(store, 3, **options)
    with pytest.raises(UserError, match="1 or more"):
        select_windows(store, 0, by="diversity")
