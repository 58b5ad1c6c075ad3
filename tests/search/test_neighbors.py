"""Nearest neighbors against brute force in float64, and merging of windows that touch."""

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.inner_products import norms
from birdnet_fs.search.neighbors import WindowScores, best_windows, similarities
from birdnet_fs.search.store import EmbeddedRecording, Store, StoreHeader

WIDTH = 16


def make_store(n_recordings=7, n_windows=30, *, dtype=np.float16, seed=0):
    rng = np.random.default_rng(seed)
    recordings = tuple(
        EmbeddedRecording(f"{i}.wav", "ok", "", (), 1, 1, 1, "", "", n_windows) for i in range(n_recordings)
    )
    total = n_recordings * n_windows
    rows = rng.normal(size=(total, WIDTH)).astype(dtype)
    start = np.tile(3.0 * np.arange(n_windows), n_recordings)
    header = StoreHeader("small", "", "", "", "", 16_000, 3.0, 3.0, WIDTH, np.dtype(dtype).name)
    which = np.repeat(np.arange(n_recordings, dtype=np.int32), n_windows)
    return Store(header=header, path=None, recordings=recordings, recording=which, start_s=start, end_s=start + 3,
                 blocks=(rows[:50], rows[50:]), norms=norms([rows]))  # fmt: skip


def of_one_query(values):
    return WindowScores(values, np.zeros(len(values), np.int32), ("example",))


def test_similarities_equal_brute_force():
    store = make_store()
    queries = np.random.default_rng(1).normal(size=(3, WIDTH))
    rows = np.concatenate(store.blocks).astype(np.float64)
    cosine = rows @ queries.T / np.linalg.norm(rows, axis=1)[:, None] / np.linalg.norm(queries, axis=1)
    np.testing.assert_allclose(similarities(store, queries).values, cosine.max(1), atol=1e-6)
    np.testing.assert_array_equal(similarities(store, queries).which, cosine.argmax(1))


def test_windows_of_an_older_part_are_never_found():
    store = make_store()
    store.recording[:30] = -1
    found = best_windows(store, similarities(store, np.ones(WIDTH)), 500)
    assert found and all(each.row >= 30 for each in found)


def test_consecutive_windows_are_one_result_with_the_times_of_the_best():
    store = make_store(2, 6)
    scores = np.array([0.1, 0.8, 0.9, 0.7, 0.2, 0.6, 0.3, 0.0, 0.0, 0.0, 0.0, 0.5], np.float32)
    scores[[0, 4, 6, 7, 8, 9, 10]] = -np.inf
    found = best_windows(store, of_one_query(scores), 10)
    assert [(each.recording, each.start_s, each.n_windows) for each in found] == [
        ("0.wav", 6.0, 3),
        ("0.wav", 15.0, 1),
        ("1.wav", 15.0, 1),
    ]
    assert [round(each.score, 3) for each in found] == [0.9, 0.6, 0.5]
    assert len(best_windows(store, of_one_query(scores), 2)) == 2


def test_results_are_filled_up_when_many_windows_merge():
    store = make_store(3, 200)
    scores = np.zeros(600, np.float32)
    scores[:200], scores[300], scores[500] = 1.0, 0.5, 0.4
    found = best_windows(store, of_one_query(scores), 3)
    assert [each.recording for each in found][:1] == ["0.wav"] and len(found) == 3


@pytest.mark.parametrize(
    ("query", "message"),
    [(np.zeros(WIDTH), "must not be zero"), (np.full(WIDTH, np.nan), "NaN"), (np.ones(5), "must have 16 values")],
)
def test_wrong_queries_are_refused(query, message):
    with pytest.raises(UserError, match=message):
        similarities(make_store(), query)
    with pytest.raises(UserError, match="1 or more"):
        best_windows(make_store(), of_one_query(np.zeros(210, np.float32)), 0)
