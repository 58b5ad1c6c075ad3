"""Few-shot accuracy against loops over episodes in float64 and scikit-learn's own probe."""

import itertools

import numpy as np
import pytest
import tolerances
from scipy.stats import norm, zscore
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.episodes import draw_episodes, draw_evaluation_episodes
from birdnet_fs.metrics.few_shot import (
    by_embedding,
    by_pairs,
    combine_standardized,
    few_shot_accuracy,
    summarize,
)

WIDTH, N_CLASSES = 24, 7
BASE_MEAN = np.linspace(-1, 1, WIDTH)


def clips(class_signal: float, recording_signal: float = 0.0, seed: int = 0):
    """Embeddings of 7 classes x 5 recordings x 6 clips, their labels and recordings."""
    rng = np.random.default_rng(seed)
    of_class = rng.normal(size=(N_CLASSES, 1, 1, WIDTH)) * class_signal
    of_recording = rng.normal(size=(N_CLASSES, 5, 1, WIDTH)) * recording_signal
    x = of_class + of_recording + rng.normal(size=(N_CLASSES, 5, 6, WIDTH)) + 0.3
    labels = [f"class {c}" for c in range(N_CLASSES) for _ in range(30)]
    groups = [f"{c} {r}" for c in range(N_CLASSES) for r in range(5) for _ in range(6)]
    return x.reshape(-1, WIDTH), labels, groups


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def fitted(x, labels):
    """Two classes are sigmoid to scikit-learn, softmax to us: half the penalty on the difference."""
    return LogisticRegression(C=2.0 if len(set(labels)) == 2 else 1.0, tol=1e-8, max_iter=10_000).fit(x, labels)


def named_one_by_one(x, episodes, method):
    """The class of every query [n_episodes, n_way, n_query], in float64, straight from the papers."""
    if method == "simpleshot":
        x = unit(x - BASE_MEAN)
    elif method == "logistic_regression":
        x = unit(x)
    named = np.empty(episodes.query.shape, int)
    for e, (classes, support, query) in enumerate(zip(episodes.classes, episodes.support, episodes.query, strict=True)):
        if method == "logistic_regression":
            probe = fitted(x[support.ravel()], np.repeat(classes, support.shape[1]))
            named[e] = probe.predict(x[query.ravel()]).reshape(query.shape)
            continue
        prototypes = [x[own].mean(axis=0) for own in support]
        for place, item in np.ndenumerate(query):
            if method == "cosine":
                near = [x[item] @ p / np.linalg.norm(x[item]) / np.linalg.norm(p) for p in prototypes]
            else:
                near = [-np.sum((x[item] - p) ** 2) for p in prototypes]
            named[e][place] = classes[int(np.argmax(near))]
    return named


@pytest.mark.parametrize("n_way", [2, 5])
@pytest.mark.parametrize("method", ["euclidean", "cosine", "simpleshot", "logistic_regression"])
def test_accuracy_interval_and_classes_are_those_of_a_loop_over_episodes(method, n_way):
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=n_way, n_shot=3, n_query=4, n_episodes=60, seed=1)
    result = few_shot_accuracy(x, episodes, method, base_mean=BASE_MEAN)
    named = named_one_by_one(x, episodes, method)
    true = np.broadcast_to(episodes.classes[:, :, None], named.shape)
    each = (named == true).mean(axis=(1, 2))
    assert 0.4 < each.mean() < 0.95  # neither chance nor trivial
    assert result.accuracy == pytest.approx(each.mean(), abs=tolerances.EXACT_METRIC)
    half = norm.ppf(0.975) * each.std(ddof=1) / np.sqrt(60)
    assert (result.low, result.high) == pytest.approx((each.mean() - half, each.mean() + half))
    assert np.array_equal(result.confusion, confusion_matrix(true.ravel(), named.ravel(), labels=range(N_CLASSES)))
    reference = precision_recall_fscore_support(true.ravel(), named.ravel(), labels=range(N_CLASSES))
    for name, values in zip(("precision", "recall", "f1"), reference[:3], strict=True):
        assert getattr(result.precision_recall_f1, name) == pytest.approx(values, abs=tolerances.EXACT_METRIC)
        assert result.precision_recall_f1.macro[name] == pytest.approx(values.mean(), abs=tolerances.EXACT_METRIC)
    assert (result.n_way, result.n_shot, result.n_query, result.n_episodes) == (n_way, 3, 4, 60)


def test_the_interval_holds_the_mean_of_many_more_episodes():
    x, labels, groups = clips(0.4)
    whole = few_shot_accuracy(x, draw_episodes(labels, groups, n_way=5, n_shot=1, n_query=5, n_episodes=20_000, seed=0))
    held = 0
    for seed in range(1, 101):
        part = few_shot_accuracy(
            x, draw_episodes(labels, groups, n_way=5, n_shot=1, n_query=5, n_episodes=100, seed=seed)
        )
        held += part.low <= whole.accuracy <= part.high
    low, high = tolerances.COVERAGE_OF_100
    assert low <= held <= high


@pytest.mark.parametrize("method", ["euclidean", "cosine"])
def test_embeddings_that_say_nothing_are_right_by_chance(method):
    """Equal scores must not favor the true class."""
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=5, n_shot=2, n_query=2, n_episodes=50, seed=0)
    assert few_shot_accuracy(np.ones_like(x), episodes, method).accuracy == pytest.approx(0.2)


def test_a_common_offset_does_not_blur_distances():
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=5, n_shot=3, n_query=3, n_episodes=200, seed=0)
    assert few_shot_accuracy(x + 1000, episodes).accuracy == pytest.approx(
        few_shot_accuracy(x, episodes).accuracy, abs=tolerances.OFFSET_ACCURACY
    )


def test_what_a_recording_adds_is_seen_within_and_not_across():
    x, labels, groups = clips(0.3, recording_signal=1.0)
    across, within = draw_evaluation_episodes(
        labels, groups, n_way=5, n_shot=1, n_query=5, n_episodes=500, seed=0
    ).drawn
    for method in ("euclidean", "cosine"):
        far, near = few_shot_accuracy(x, across, method), few_shot_accuracy(x, within, method)
        assert (far.recordings, near.recordings) == ("across", "within")
        assert near.low > far.high + 0.2


@pytest.mark.parametrize("n_shot", [1, 3])
def test_pairs_are_named_by_the_most_alike_support_clip(n_shot):
    x, labels, groups = clips(0.5)
    alike = unit(x) @ unit(x).T
    episodes = draw_episodes(labels, groups, n_way=4, n_shot=n_shot, n_query=3, n_episodes=40, seed=0)
    right = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        for c, item in itertools.product(range(4), range(3)):
            right.append(np.argmax([max(alike[query[c, item], i] for i in own) for own in support]) == c)
    found = summarize(by_pairs("similarity", alike, episodes))
    assert 0.4 < np.mean(right) < 0.95
    assert (found.method, found.accuracy) == ("similarity", pytest.approx(np.mean(right)))


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_two_methods_together_are_the_sum_of_standard_scores(weight):
    x, labels, groups = clips(0.5)
    other = np.random.default_rng(1).normal(size=(len(x), len(x)))
    episodes = draw_episodes(labels, groups, n_way=5, n_shot=2, n_query=2, n_episodes=30, seed=0)
    pairs = by_pairs("other", other, episodes)
    found = summarize(combine_standardized(by_embedding(x, episodes, "cosine"), pairs, weight))
    right = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        prototypes = unit(x[support].mean(1))
        for c, item in itertools.product(range(5), range(2)):
            near = unit(x[query[c, item]]) @ prototypes.T
            paired = other[query[c, item]][support].max(1)
            right.append(np.argmax(zscore(near) + weight * zscore(paired)) == c)
    assert found.method == "cosine+other"
    assert 0.3 < np.mean(right) < 0.95
    assert found.accuracy == pytest.approx(np.mean(right))


def test_what_says_nothing_changes_nothing_beside_another():
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=5, n_shot=1, n_query=2, n_episodes=30, seed=0)
    cosine = by_embedding(x, episodes, "cosine")
    nothing = by_pairs("nothing", np.ones((len(x), len(x))), episodes)
    assert summarize(combine_standardized(cosine, nothing)).accuracy == summarize(cosine).accuracy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "cosin"}, r"method must be one of euclidean.*Did you mean 'cosine'\?"),
        ({"embeddings": np.zeros((5, WIDTH))}, r"one row for each of the \d+ items.*Received: \(5, 24\)"),
        ({"embeddings": np.zeros(5)}, r"must be \[n_items, width\]"),
        ({"method": "simpleshot"}, r"needs base_mean"),
        ({"method": "simpleshot", "base_mean": np.zeros(3)}, r"as wide as the embeddings, \(24,\).*\(3,\)"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=2, n_shot=1, n_query=1, n_episodes=200, seed=0)
    with pytest.raises(UserError, match=message):
        few_shot_accuracy(**{"embeddings": x, "episodes": episodes, **change})


def test_pairs_that_do_not_fit_are_said():
    _, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=2, n_shot=1, n_query=1, n_episodes=200, seed=0)
    with pytest.raises(UserError, match=r"similarity must be \[n_items, n_items\].*\(210, 209\)"):
        by_pairs("x", np.zeros((210, 209)), episodes)
    with pytest.raises(UserError, match=r"similarity must be .* one row for each"):
        by_pairs("x", np.zeros((5, 5)), episodes)
    with pytest.raises(UserError, match="similarity must be finite; 1 rows"):
        by_pairs("x", np.where(np.eye(210) * np.arange(210) == 7, np.nan, 1.0), episodes)


def test_a_function_may_be_the_method():
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=3, n_shot=2, n_query=2, n_episodes=30, seed=0)

    def manhattan(support, query):
        return -np.abs(query[:, :, None] - support.mean(2)[:, None]).sum(-1)

    result = few_shot_accuracy(x, episodes, manhattan)
    right = []
    for support, query in zip(episodes.support, episodes.query, strict=True):
        for c, item in itertools.product(range(3), range(2)):
            far = [np.abs(x[query[c, item]] - x[own].mean(0)).sum() for own in support]
            right.append(np.argmin(far) == c)
    assert result.method == "manhattan"
    assert result.accuracy == pytest.approx(np.mean(right))


def test_an_embedding_that_is_not_finite_is_named():
    x, labels, groups = clips(0.5)
    episodes = draw_episodes(labels, groups, n_way=2, n_shot=1, n_query=1, n_episodes=5, seed=0)
    x[17, 3] = np.nan
    with pytest.raises(UserError, match="1 rows are not, the first is row 17"):
        few_shot_accuracy(x, episodes)
