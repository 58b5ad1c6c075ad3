"""Early stopping and scores of no-call heads, against LightGBM's own and scikit-learn."""

import lightgbm
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from birdnet_fs.motifs.boosting import PARAMETERS
from birdnet_fs.motifs.no_call.fitting import FOLDED, SINGLE, fit_folds, fit_single, threshold_of
from birdnet_fs.motifs.no_call.splits import fold_groups, groups_of, split_groups

N = 600
RNG = np.random.default_rng(1)
RECORDINGS = [f"r{i // 20}" for i in range(N)]
X = (RNG.normal(size=(N, 12)) + np.repeat(RNG.normal(size=(N // 20, 12)), 20, 0)).astype(np.float32)
Y = X[:, 0] + 0.5 * X[:, 1] * X[:, 2] + RNG.normal(size=N) > 0
GROUPS = groups_of(RECORDINGS, "recordings")


def test_single_division_stops_where_lightgbm_does():
    found = fit_single(X, Y, RECORDINGS, seed=2)
    train, valid, test = split_groups(Y, GROUPS, SINGLE, 2)
    data = lightgbm.Dataset(X[train], Y[train])
    booster = lightgbm.train(
        {**PARAMETERS, "metric": "auc"},
        data,
        num_boost_round=100,
        valid_sets=[data.create_valid(X[valid], Y[valid])],
        callbacks=[lightgbm.early_stopping(10, verbose=False)],
    )
    assert found.best_step == booster.best_iteration and found.stopped_early
    own = found.head.probabilities(X[test])
    np.testing.assert_allclose(own, booster.predict(X[test], num_iteration=booster.best_iteration), rtol=1e-12)
    assert found.test_auc == pytest.approx(roc_auc_score(Y[test], own))
    assert found.test_ap == pytest.approx(average_precision_score(~Y[test], -own))
    assert found.lines == (
        "Early stopping, best iteration is:",
        f"[{found.best_step}]    valid_0's auc: {booster.best_score['valid_0']['auc']:g}",
        f"best number of iterations: {found.best_step}",
        f"test score: {found.test_auc}",
    )


def test_folds_stop_at_the_best_mean_of_lightgbms_own_scores():
    found = fit_folds(X, Y, RECORDINGS, seed=2)
    rest, _ = split_groups(Y, GROUPS, FOLDED, 2)
    x, y, history = X[rest], Y[rest], []
    for held in fold_groups(y, GROUPS[rest], 5, 2):
        others = np.setdiff1d(np.arange(len(y)), held)
        data, scores = lightgbm.Dataset(x[others], y[others]), {}
        valid = data.create_valid(x[held], y[held])
        callback = lightgbm.record_evaluation(scores)
        lightgbm.train({**PARAMETERS, "metric": "auc"}, data, 100, valid_sets=[valid], callbacks=[callback])
        history.append(scores["valid_0"]["auc"])
    means = np.mean(history, axis=0)
    before = means[: found.best_step - 1]
    after = means[found.best_step : found.best_step + 5]
    assert before.max(initial=0) < means[found.best_step - 1] >= after.max()
    own = [scores[found.best_step - 1] for scores in history]
    assert found.lines[1] == f"[{found.best_step}]    cv_agg's auc: {np.mean(own):g} + {np.std(own):g}"
    np.testing.assert_allclose(found.fold_aucs, own, rtol=1e-9)


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_other_heads_learn_the_linear_part(head):
    found = fit_single(X, X[:, 0] > 0.2, RECORDINGS, head=head)
    assert found.test_auc > 0.95


def test_threshold_keeps_95_percent_of_calls():
    y, probabilities = np.arange(200) < 100, np.linspace(1, 0, 200)
    threshold = threshold_of(y, probabilities)
    assert (probabilities[y] >= threshold).mean() == 0.95
