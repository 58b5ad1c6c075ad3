"""Held-out scores of folds as one table, and the spread of the headline numbers."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.score_table import ScoreRow, ScoreTable, score_table
from birdnet_fs.reports.out_of_fold import HEADLINE, out_of_fold, summary

CLASSES = ("a", "b")
FOLDS = ([0, 2, 4, 7], [1, 3, 5, 6])


def tables(seed: int) -> list[ScoreTable]:
    rng = np.random.default_rng(seed)
    found = []
    for clips in FOLDS:
        rows = [ScoreRow(f"{i}.wav", 0.0, 3.0, "", (CLASSES[i % 2],)) for i in clips]
        scores = rng.random((len(clips), 1)).astype(np.float32)
        found.append(score_table(rows, np.concatenate([scores, 1 - scores], axis=1), CLASSES))
    return found


def test_out_of_fold_averages_the_seeds_clip_by_clip() -> None:
    by_seed = {0: tables(0), 1: tables(1)}
    joined = out_of_fold(by_seed)
    assert [row.path for row in joined.rows] == [f"{i}.wav" for i in range(8)]
    for place, row in enumerate(joined.rows):
        each = [
            table.scores[[r.path for r in table.rows].index(row.path)].astype(np.float64)
            for parts in by_seed.values()
            for table in parts
            if row.path in table.paths
        ]
        np.testing.assert_array_equal(joined.scores[place], np.mean(each, axis=0).astype(joined.scores.dtype))


def test_a_clip_of_two_folds_and_missing_clips_are_refused() -> None:
    first = tables(0)
    with pytest.raises(UserError, match="held out by two folds of seed 0"):
        out_of_fold({0: [first[0], first[0]]})
    with pytest.raises(UserError, match="scored on different clips"):
        out_of_fold({0: first, 1: tables(1)[:1]})


def test_summary_gives_means_deviations_and_the_pooled_auroc() -> None:
    by_seed = {0: tables(0), 1: tables(1)}
    values = iter(np.random.default_rng(2).random(100).tolist())
    folds = [{"seed": s, "fold": f, **{name: next(values) for name in HEADLINE}} for s in (0, 1) for f in (0, 1)]
    found = summary(folds, by_seed)
    assert found["std_over"] == "2 seeds"
    for name in HEADLINE:
        means = [np.mean([row[name] for row in folds if row["seed"] == s]) for s in (0, 1)]
        assert found[name]["mean"] == pytest.approx(np.mean(means), rel=1e-12)
        assert found[name]["std"] == pytest.approx(np.std(means, ddof=1), rel=1e-12)
    targets = np.concatenate([table.targets for table in by_seed[0]])
    scores = np.concatenate([table.scores for table in by_seed[0]])
    pooled = np.mean([roc_auc_score(targets[:, c], scores[:, c]) for c in range(2)])
    assert found["pooled_macro_auroc"]["by_seed"]["0"] == pytest.approx(pooled, rel=1e-12)
