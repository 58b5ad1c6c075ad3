"""Few-shot methods on single episodes, against distances by hand and the probe of scikit-learn."""

import numpy as np
import pytest
import tolerances
from sklearn.linear_model import LogisticRegression

from birdnet_fs.metrics.few_shot_methods import METHODS, unit_length


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_prototype_scores_differ_from_distances_by_a_constant_per_query():
    rng = np.random.default_rng(0)
    support, query = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 3, 4, 8), (2, 5, 8)))
    prototypes = support.astype(float).mean(axis=2)
    squared = np.square(query[:, :, None] - prototypes[:, None]).sum(axis=3)
    cosine = unit(query.astype(float)) @ unit(prototypes).swapaxes(1, 2)
    rest = METHODS["euclidean"](support, query) + squared
    np.testing.assert_allclose(rest, rest[:, :, :1].repeat(3, axis=2), atol=tolerances.PROTOTYPES)
    found = METHODS["cosine"](support, query) / np.linalg.norm(query, axis=2, keepdims=True)
    np.testing.assert_allclose(found, cosine, atol=tolerances.PROTOTYPES)
    np.testing.assert_allclose(unit_length(query), unit(query), atol=tolerances.DISTANCES)
    assert unit_length(np.zeros((1, 2), np.float32)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(("n_way", "n_shot"), [(2, 1), (5, 1), (5, 5), (20, 5)])
@pytest.mark.parametrize("signal", [0.0, 5.0])  # classes that cannot be separated, and classes far apart
def test_logistic_regression_equals_scikit_learn(n_way, n_shot, signal):
    rng = np.random.default_rng(n_way + n_shot)
    classes = signal * rng.normal(size=(3, n_way, 1, 64)) + 2.0
    support = unit(classes + rng.normal(size=(3, n_way, n_shot, 64)))
    query = unit((classes + rng.normal(size=(3, n_way, 4, 64))).reshape(3, -1, 64))
    scores = METHODS["logistic_regression"](support.astype(np.float32), query.astype(np.float32))
    for i in range(3):
        penalty = 2.0 if n_way == 2 else 1.0  # two classes are a sigmoid there and a softmax here
        probe = LogisticRegression(C=penalty, tol=1e-8, max_iter=10_000)
        probe.fit(support[i].reshape(-1, 64), np.repeat(np.arange(n_way), n_shot))
        expected = probe.decision_function(query[i])
        got = scores[i, :, 1] - scores[i, :, 0] if n_way == 2 else scores[i]
        assert np.abs(got - expected).max() <= tolerances.PROBE_SCORES
