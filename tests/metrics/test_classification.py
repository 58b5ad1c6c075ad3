"""Metrics against scikit-learn and counting by hand."""

import numpy as np
import pytest
import tolerances
from random_scores import drawn
from sklearn import metrics as sk

from birdnet_fs.metrics import classification


@pytest.mark.parametrize("kind", ["logits", "ties", "crowded", "probabilities"])
@pytest.mark.parametrize("n,prevalence", [(60, 0.4), (2500, 0.02)])
def test_average_precision_and_cmap_equal_sklearn(kind, n, prevalence):
    targets, scores = drawn(n, 6, prevalence, kind, seed=1)
    targets[:, 5] = 0
    reference = [sk.average_precision_score(targets[:, c], scores[:, c]) for c in range(5)]
    found = classification.average_precision(targets, scores)
    np.testing.assert_allclose(found[:5], reference, rtol=0, atol=tolerances.EXACT_METRIC)
    assert np.isnan(found[5])
    assert classification.cmap(targets, scores) == pytest.approx(np.mean(reference), abs=tolerances.EXACT_METRIC)


@pytest.mark.parametrize("kind", ["ties", "probabilities"])
def test_best_f1_is_the_best_of_all_thresholds(kind):
    targets, scores = drawn(250, 3, 0.1, kind, seed=2)
    thresholds, values = classification.best_f1(targets, scores)
    for c in range(3):
        tried = [sk.f1_score(targets[:, c], scores[:, c] >= t) for t in np.unique(scores[:, c])]
        assert values[c] == pytest.approx(max(tried), abs=tolerances.EXACT_METRIC)
    np.testing.assert_allclose(
        classification.f1(targets, scores, thresholds), values, rtol=0, atol=tolerances.EXACT_METRIC
    )


def test_counts_f1_accuracy_and_confusion_equal_sklearn():
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, 300)
    targets = np.eye(5)[truth]
    scores = rng.random((300, 5)) + 0.3 * targets
    reference = sk.multilabel_confusion_matrix(targets, scores >= 0.5)
    found = classification.detection_counts(targets, scores)
    np.testing.assert_array_equal(found[:, [3, 1, 2, 0]], reference.reshape(5, 4))
    expected = [sk.f1_score(targets[:, c], scores[:, c] >= 0.5, zero_division=0) for c in range(5)]
    np.testing.assert_allclose(classification.f1(targets, scores), expected, atol=tolerances.EXACT_METRIC)
    called = scores.argmax(axis=1)
    assert classification.accuracy(targets, scores) == sk.accuracy_score(truth, called)
    assert classification.exact_match(targets, scores) == sk.accuracy_score(targets, scores >= 0.5)
    np.testing.assert_array_equal(
        classification.confusion(targets, scores), sk.confusion_matrix(truth, called, labels=range(5))
    )
    assert np.isnan(classification.f1(np.zeros((2, 1)), np.zeros((2, 1)))[0])


@pytest.mark.parametrize("multi_label", [False, True])
def test_precision_recall_and_f1_are_those_of_sklearn_over_the_classes_present(multi_label):
    rng = np.random.default_rng(11)
    truth, scores = rng.integers(0, 5, 300), rng.dirichlet(np.full(7, 0.5), 300)
    scores[:, 2] *= 1e-3
    scores /= scores.sum(axis=1, keepdims=True)  # class 2 occurs and is never called; 5 and 6 never occur, 5 is called
    targets = np.eye(7)[truth]
    if multi_label:
        targets[:, :5] = np.maximum(targets[:, :5], rng.random((300, 5)) < 0.2)
    labels = scores >= 0.5 if multi_label else scores.argmax(axis=1)
    true, present = (targets.astype(bool) if multi_label else truth), list(range(5))
    found = classification.classification_report(targets, scores, multi_label=multi_label)
    each = sk.precision_recall_fscore_support(true, labels, labels=present, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "n"), each, strict=True):
        np.testing.assert_allclose(getattr(found, name)[:5], values, atol=tolerances.EXACT_METRIC)
    assert found.precision[2] == found.recall[2] == 0 and np.isnan(found.recall[5:]).all()
    for kind in ("macro", "weighted"):
        mean = sk.precision_recall_fscore_support(true, labels, labels=present, average=kind, zero_division=0)
        assert list(getattr(found, kind).values()) == pytest.approx(mean[:3], abs=tolerances.EXACT_METRIC)
    reference = sum(sk.log_loss(targets[:, c], scores[:, c], labels=[0, 1]) for c in range(7)) / 7
    if not multi_label:
        reference = sk.log_loss(truth, scores, labels=range(7))
    assert classification.log_loss(targets, scores, multi_label=multi_label) == pytest.approx(
        reference, rel=tolerances.LOSS
    )


def test_nothing_to_call_is_not_a_number():
    empty = np.zeros((0, 2))
    assert np.isnan(list(classification.classification_report(empty, empty, multi_label=False).weighted.values())).all()
    assert np.isnan(classification.log_loss(empty, empty, multi_label=True))
    sure = classification.log_loss([[1, 0]], [[0.0, 1.0]], multi_label=False)
    assert 80 < sure < 90  # -log of the smallest normal float32, not infinity
