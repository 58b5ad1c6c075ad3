"""Scores of examples for windows: cosine similarities."""

import numpy as np
from embedding_store import store_of

from birdnet_fs.search.examples import example_scores


def test_scores_of_examples_are_cosine_similarities():
    rng = np.random.default_rng(0)
    rows, queries = rng.normal(size=(9, 5)), rng.normal(size=(2, 5))
    scores = example_scores(store_of(rows), queries.astype(np.float32), ["a.wav", "b.wav"])
    expected = rows @ queries.T / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(queries, axis=1)
    np.testing.assert_allclose(scores.score(rows.astype(np.float32)), expected, atol=1e-6)
    assert scores.names == ("a.wav", "b.wav") and scores.activation == ""
