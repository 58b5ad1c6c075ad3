"""Metrics of a table of scores against scikit-learn."""

import json

import numpy as np
import pytest
import tolerances
from drawn_scores import HOSTILE, drawn
from sklearn import metrics as sk

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.data.score_table import score_table
from birdnet_fs.reports.evaluate import evaluate_scores, write_evaluation


def test_numbers_are_those_of_sklearn():
    table, truth = drawn()
    found = evaluate_scores(table.targets, table.scores, table.classes, table.groups, multi_label=False)
    json.dumps(found, allow_nan=False)
    areas = [sk.roc_auc_score(table.targets[:, c], table.scores[:, c]) for c in range(4)]
    precisions = [sk.average_precision_score(table.targets[:, c], table.scores[:, c]) for c in range(4)]
    assert found["macro_auroc"] == pytest.approx(np.mean(areas), abs=tolerances.EXACT_METRIC)
    assert found["cmap"] == pytest.approx(np.mean(precisions), abs=tolerances.EXACT_METRIC)
    assert found["accuracy"] == sk.accuracy_score(truth, table.scores.argmax(axis=1))
    assert found["confusion"] == sk.confusion_matrix(truth, table.scores.argmax(axis=1), labels=range(5)).tolist()
    assert (found["n_scored_classes"], found["skipped_classes"]) == (4, ["bad\\xa0\\u200bx"])
    assert (found["n_segments"], found["n_groups"]) == (200, 50)
    for c, row in enumerate(found["per_class"][:4]):
        assert row["name"] == HOSTILE[c]
        assert row["n_positives"] == int((truth == c).sum())
        assert row["auroc"] == pytest.approx(areas[c], abs=tolerances.EXACT_METRIC)
        assert row["average_precision"] == pytest.approx(precisions[c], abs=tolerances.EXACT_METRIC)
        called = table.scores[:, c] >= np.float32(row["threshold"])
        assert row["best_f1"] == pytest.approx(sk.f1_score(table.targets[:, c], called), abs=tolerances.EXACT_METRIC)
    assert found["per_class"][4]["auroc"] is None


def test_no_call_is_scored_by_the_highest_score():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.2).astype(np.float32)
    scores = np.clip(rng.random((60, 3)) + 0.3 * targets, 0, 1).astype(np.float32)
    groups = [str(i) for i in range(60)]
    found = evaluate_scores(targets, scores, "abc", groups, multi_label=True)["no_call_average_precision"]
    expected = sk.average_precision_score(targets.max(1) == 0, 1 - scores.max(1))
    assert found == pytest.approx(expected, abs=tolerances.EXACT_METRIC)
    every = np.ones((60, 3), np.float32)
    assert evaluate_scores(every, scores, "abc", groups, multi_label=True)["no_call_average_precision"] is None
    assert drawn_single() is None


def drawn_single():
    """Average precision of no-call with one label a row: no row is without a label."""
    table, _ = drawn()
    found = evaluate_scores(table.targets, table.scores, table.classes, table.groups, multi_label=False)
    return found["no_call_average_precision"]


def test_the_interval_holds_the_estimate_and_shrinks_with_more_recordings():
    widths = []
    for n in (80, 320, 1280):
        table, _ = drawn(n)
        found = evaluate_scores(table.targets, table.scores, table.classes, table.groups, multi_label=False)
        low, high = found["macro_auroc_ci"]
        assert low <= found["macro_auroc"] <= high
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2]


def test_accuracy_of_multi_label_is_the_whole_set_of_labels():
    targets = np.array([[1, 1], [0, 1], [0, 0], [1, 0]])
    scores = np.array([[0.9, 0.6], [0.6, 0.9], [0.1, 0.2], [0.5, 0.1]])
    found = evaluate_scores(targets, scores, ("a", "b"), list("wxyz"), multi_label=True)
    assert found["accuracy"] == sk.accuracy_score(targets, scores >= 0.5) == 0.75
    assert "set of labels" in found["accuracy_is"]


def test_metrics_json_keeps_other_keys_and_is_replaced_whole(tmp_path):
    table, _ = drawn()
    write_json(tmp_path / "metrics.json", {"training_s": 12.5, "macro_auroc": 0.1})
    found = write_evaluation(tmp_path, table, multi_label=False, title="t")
    stored = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8", errors="strict"))
    assert stored["training_s"] == 12.5
    assert stored["macro_auroc"] == found["macro_auroc"] > 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "report.html"]
    (tmp_path / "metrics.json").write_text("{half", encoding="utf-8")
    with pytest.raises(UserError, match=r"metrics\.json is not readable JSON"):
        write_evaluation(tmp_path, table, multi_label=False, title="t")
    with pytest.raises(UserError, match="no rows"):
        write_evaluation(tmp_path, score_table([], np.zeros((0, 5)), HOSTILE), multi_label=False, title="t")
