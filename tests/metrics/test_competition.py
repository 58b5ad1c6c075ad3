"""The competition's metric, against scikit-learn by the rules of the competition's code."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.competition import competition_score, score_submission

ROUNDING = 1e-12  # of sums of at most 1e4 areas in float64


def by_the_competition(solution: pd.DataFrame, submission: pd.DataFrame) -> float:
    """The rules of kaggle.com/code/metric/birdclef-roc-auc, on tables without row_id."""
    sums = solution.sum(axis=0)
    scored = list(sums[sums > 0].index.values)
    return roc_auc_score(solution[scored].values, submission[scored].values, average="macro")


def tables(n=60, n_classes=7, seed=0):
    rng = np.random.default_rng(seed)
    names = [f"c{i}" for i in range(n_classes)]
    truth = (rng.random((n, n_classes)) < 0.15).astype(int)
    truth[:, 2] = 0
    scores = rng.random((n, n_classes)).round(1)  # with ties
    ids = [f"soundscape_{i // 12}_{5 * (i % 12 + 1)}" for i in range(n)]
    return pd.DataFrame(truth, columns=names), pd.DataFrame(scores, columns=names), ids


@pytest.mark.parametrize("seed", range(5))
def test_score_is_that_of_the_competition(tmp_path, seed):
    truth, scores, ids = tables(seed=seed)
    solution, submission = truth.copy(), scores.copy()
    solution.insert(0, "row_id", ids)
    submission.insert(0, "row_id", ids)
    submission = submission.sample(frac=1, random_state=seed)[["row_id", *reversed(truth.columns)]]
    solution.assign(Usage="Private").to_csv(tmp_path / "solution.csv", index=False)
    submission.to_csv(tmp_path / "submission.csv", index=False)
    found = score_submission(tmp_path / "submission.csv", tmp_path / "solution.csv")
    assert abs(found.value - by_the_competition(truth, scores)) < ROUNDING
    assert "c2" not in found.per_class and found.value == found.mean_of_others


def test_a_class_that_is_always_positive_is_not_left_out():
    truth, scores, _ = tables()
    truth["c0"] = 1
    with pytest.warns(Warning, match="Only one class"):
        assert np.isnan(by_the_competition(truth, scores))
    found = competition_score(truth.to_numpy(), scores.to_numpy(), tuple(truth.columns))
    assert np.isnan(found.value) and found.always_positive == ("c0",)
    others = truth.columns.drop("c0")
    assert abs(found.mean_of_others - by_the_competition(truth[others], scores[others])) < ROUNDING


@pytest.mark.parametrize(
    ("submission", "solution", "message"),
    [
        ("row_id,a\nx_5,high\n", "row_id,a\nx_5,1\n", "Received: 'high' in the column a"),
        ("row_id,a\nx_5,\n", "row_id,a\nx_5,1\n", "Received: '' in the column a"),
        ("row_id,a\nx_5,inf\n", "row_id,a\nx_5,1\n", "finite number. Received: 'inf'"),
        ("row_id,a\nx_5,True\n", "row_id,a\nx_5,1\n", "finite number. Received: 'True'"),
        ("row_id,b\nx_5,0\n", "row_id,a\nx_5,1\n", "1 are missing, first 'a'"),
        ("row_id,a\nx_5,0\n", "row_id,a\nx_5,1\nx_10,0\n", "1 are missing and 0 are not of it, as 'x_10'"),
        ("row_id,a\nx_5,0\ny_5,0\n", "row_id,a\nx_5,1\n", "0 are missing and 1 are not of it, as 'y_5'"),
        ("row_id,a\nx_5,0\nx_5,0\n", "row_id,a\nx_5,1\n", "has the row 'x_5' twice"),
        ("row_id,a\nx_5,0\n", "row_id,a\nx_5,0\n", "a class has a positive row; it has none"),
        ("row_id,a\nx_5,0\n", "row_id,a\nx_5,2\n", "must hold 0 or 1"),
        ("row_id,a\n", "row_id,a\nx_5,2\n", "it has none"),
    ],
)
def test_other_tables_are_refused(tmp_path, submission, solution, message):
    (tmp_path / "submission.csv").write_text(submission)
    (tmp_path / "solution.csv").write_text(solution)
    with pytest.raises(UserError) as refused:
        score_submission(tmp_path / "submission.csv", tmp_path / "solution.csv")
    assert message in str(refused.value)
