"""AUROC against scikit-learn, SciPy and counting pairs."""

import ml_dtypes
import numpy as np
import pytest
import tolerances
from hypothesis import given, settings
from hypothesis import strategies as st
from random_scores import drawn
from scipy.stats import rankdata
from sklearn import metrics as sk

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics import classification
from birdnet_fs.metrics.auroc import checked, macro_auroc, positive_ranks, undefined_because


def by_pairs(truth, scores):
    """AUROC by comparing every positive with every negative."""
    won = scores[truth == 1][:, None].astype(float) - scores[truth == 0][None, :]
    return float(np.mean((won > 0) + 0.5 * (won == 0)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "kind", ["logits", "probabilities", "ties", "crowded", "signed_zero", "huge", "tiny", "outlier"]
)
@pytest.mark.parametrize("n,prevalence", [(50, 0.3), (3000, 0.01), (3000, 0.2), (3000, 0.6)])
def test_auroc_equals_sklearn(kind, dtype, n, prevalence):
    targets, scores = drawn(n, 5, prevalence, kind, seed=n, dtype=dtype)
    found = macro_auroc(targets, scores)
    reference = [sk.roc_auc_score(targets[:, c], scores[:, c]) for c in range(5)]
    np.testing.assert_allclose(found.per_class, reference, rtol=0, atol=tolerances.EXACT_METRIC)
    assert found.value == pytest.approx(np.mean(reference), abs=tolerances.EXACT_METRIC)
    assert (found.n_scored_classes, found.skipped) == (5, ())


def test_auroc_equals_midranks_of_scipy():
    targets, scores = drawn(2000, 40, 0.02, "ties", seed=3)
    n1 = targets.sum(axis=0, dtype=np.float64)
    ranks = rankdata(scores.astype(np.float64), axis=0)  # newer SciPy ranks in the type it is given
    u = (ranks * targets).sum(axis=0) - n1 * (n1 + 1) / 2
    np.testing.assert_allclose(
        macro_auroc(targets, scores).per_class, u / (n1 * (2000 - n1)), rtol=0, atol=tolerances.EXACT_METRIC
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_auroc_with_heavy_ties_equals_counting_pairs(data):
    n = data.draw(st.integers(2, 40))
    values = st.sampled_from([-np.inf, -1.5, -0.0, 0.0, 1e-40, 0.25, 0.5, 1.0, np.inf])
    scores = np.array(data.draw(st.lists(values, min_size=n, max_size=n)), dtype=data.draw(st.sampled_from("fd")))
    truth = np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    with np.errstate(invalid="ignore"):
        expected = by_pairs(truth, np.searchsorted(np.unique(scores), scores)) if 0 < truth.sum() < n else np.nan
    found = macro_auroc(truth[:, None], scores[:, None])
    np.testing.assert_allclose(found.value, expected, rtol=0, atol=tolerances.EXACT_METRIC)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3), st.sampled_from([0.005, 0.05, 0.3]))
def test_a_rising_map_of_the_scores_changes_nothing(seed, decimals, prevalence):
    targets, scores = drawn(1200, 2, prevalence, "logits", seed, np.float64)
    scores = np.round(scores, decimals)
    mapped = np.searchsorted(np.unique(scores), scores) - 700.0
    assert macro_auroc(targets, scores).per_class.tolist() == (macro_auroc(targets, mapped).per_class.tolist())


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]])
@pytest.mark.parametrize("n,n_classes", [(1023, 63), (1025, 130)])
def test_macro_auroc_does_not_depend_on_the_memory_layout(layout, n, n_classes):
    targets, scores = drawn(n, n_classes, 0.05, "ties", seed=4)
    expected = [by_pairs(targets[:, c], scores[:, c]) for c in range(n_classes)]
    given, before = layout(scores), scores.copy()
    found = macro_auroc(layout(targets), given).per_class
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerances.EXACT_METRIC)
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize(
    "low,high",
    [
        (np.float64(1), np.nextafter(1.0, 2.0)),
        (np.float64(5e-324), np.float64(1e-323)),
        (np.float32(1), np.nextafter(np.float32(1), np.float32(2))),
        (np.float16(1), np.nextafter(np.float16(1), np.float16(2))),
        (np.int64(2**53), np.int64(2**53 + 1)),
        (np.bool_(False), np.bool_(True)),
    ],
)
def test_macro_auroc_compares_scores_in_their_own_precision(low, high):
    assert macro_auroc([[0], [1]], np.array([[low], [high]])).value == 1
    assert macro_auroc([[0], [1]], np.array([[high], [low]])).value == 0
    assert macro_auroc([[0], [1]], np.array([[low], [low]])).value == 0.5


def test_checked_keeps_the_type_and_widens_bfloat16_exactly():
    for dtype in (np.float16, np.float32, np.float64, np.int32):
        assert checked([[0], [1]], np.array([[1], [2]], dtype))[1].dtype == dtype
    scores = np.array([[1], [1 + 2**-7]], ml_dtypes.bfloat16)
    assert checked([[0], [1]], scores)[1].tolist() == [[1], [1 + 2**-7]]


@pytest.mark.parametrize("kind", ["logits", "ties", "signed_zero"])
def test_positive_ranks_equal_counting(kind):
    targets, scores = drawn(300, 3, 0.1, kind, seed=6)
    for c, ranks in enumerate(positive_ranks(targets, scores)):
        positives = np.sort(scores[targets[:, c] == 1, c])
        np.testing.assert_array_equal(ranks.positives, positives)
        np.testing.assert_array_equal(ranks.n_below, (scores[:, c] < positives[:, None]).sum(axis=1))
        np.testing.assert_array_equal(ranks.n_up_to, (scores[:, c] <= positives[:, None]).sum(axis=1))


def test_the_order_of_rows_changes_nothing():
    targets, scores = drawn(4000, 6, 0.02, "ties", seed=9)
    order = np.random.default_rng(0).permutation(4000)
    assert macro_auroc(targets, scores).value == macro_auroc(targets[order], scores[order]).value


def test_classes_that_cannot_be_scored_are_named_and_left_out():
    targets = np.array([[0, 1, 0], [0, 1, 1], [0, 1, 0]])
    found = macro_auroc(targets, np.array([[0.1, 0.2, 0.3], [0.1, 0.4, 0.9], [0.1, 0.2, 0.1]]))
    assert found.skipped == (0, 1)
    assert found.n_scored_classes == 1
    assert found.value == 1.0
    assert np.isnan(found.per_class[:2]).all()
    assert np.isnan(macro_auroc(np.zeros((3, 2)), np.zeros((3, 2))).value)
    assert macro_auroc(np.zeros((0, 2)), np.zeros((0, 2))).skipped == (0, 1)


@pytest.mark.parametrize(
    "targets,scores,says",
    [
        ([[0, 1], [1, 0]], [[0.1, np.nan], [0.2, 0.3]], "class 1 holds NaN"),
        ([[0, 0.5], [1, 0]], [[0.1, 0.2], [0.2, 0.3]], "class 1 holds another value"),
        ([[0, np.nan], [1, 0]], [[0.1, 0.2], [0.2, 0.3]], "class 1 holds another value"),
        ([[0, 1]], [[0.1, 0.2], [0.2, 0.3]], r"\(1, 2\) and \(2, 2\)"),
        ([0, 1], [0.1, 0.2], "n_classes"),
        ([[0], [1]], [["0.1"], ["0.2"]], "scores must be real numbers. Received: an array of <U3"),
        ([[0], [1]], [[0.1], [0.2j]], "scores must be real numbers. Received: an array of complex128"),
        ([[0], [1]], [[None], [0.2]], "scores must be real numbers. Received: an array of object"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(targets, scores, says):
    for fn in (macro_auroc, classification.average_precision, classification.accuracy):
        with pytest.raises(UserError, match=says):
            fn(np.array(targets), np.array(scores))


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (np.zeros((0, 2)), "there is no clip"),
        ([[1, 0], [1, 0]], "all 2 clips have the label 'a' only"),
        ([[1, 1]], "the only clip has the same 2 labels only"),
        ([[0, 0], [0, 0]], "none of the 2 clips has a label"),
        ([[1, 0], [1, 1]], ""),
        ([[1, 0], [0, 1]], ""),
    ],
)
def test_reason_is_given_exactly_where_macro_auroc_is_undefined(targets, words) -> None:
    targets = np.asarray(targets, float)
    found = undefined_because(targets, ["a", "b"])
    assert found.startswith(words) and bool(found) == bool(words)
    assert np.isnan(macro_auroc(targets, np.random.default_rng(0).uniform(size=targets.shape)).value) == bool(words)
