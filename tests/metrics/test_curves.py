"""Curves against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from birdnet_fs.metrics.curves import precision_recall_points, roc_points


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_points_are_those_of_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(decimals)
    targets = rng.integers(0, 2, 500)
    scores = np.round(rng.random(500) + 0.3 * targets, decimals)
    x, y = roc_points(targets, scores)
    fpr, tpr, _ = roc_curve(targets, scores, drop_intermediate=False)
    np.testing.assert_allclose(np.stack([x, y]), np.stack([fpr, tpr]), rtol=0, atol=1e-9)
    assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(targets, scores), abs=1e-9)
    recall, precision = precision_recall_points(targets, scores)
    theirs_precision, theirs_recall, _ = precision_recall_curve(targets, scores)
    np.testing.assert_allclose(recall, theirs_recall[::-1], rtol=0, atol=1e-9)
    np.testing.assert_allclose(precision, theirs_precision[::-1], rtol=0, atol=1e-9)
    area = (np.diff(recall) * precision[1:]).sum()
    assert area == pytest.approx(average_precision_score(targets, scores), abs=1e-9)


def test_one_positive_below_all_others() -> None:
    x, y = roc_points([1, 0, 0], [0.1, 0.5, 0.9])
    assert x.tolist() == [0, 0.5, 1, 1] and y.tolist() == [0, 0, 0, 1]
    recall, precision = precision_recall_points([1, 0, 0], [0.1, 0.5, 0.9])
    assert recall.tolist() == [0, 0, 0, 1] and precision.tolist() == pytest.approx([1, 0, 0, 1 / 3])
