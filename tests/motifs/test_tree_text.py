"""Trees from strangers: what would end or hang the process is refused before LightGBM reads it."""

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.boosting import BoostedPath, Trees
from birdnet_fs.motifs.tree_text import checked_trees

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 6)).astype(np.float32)
PATH = BoostedPath(X, X[:, 0] + X[:, 1] ** 2 > 0.5, 5)
TEXT = PATH.head(5).text


def test_trees_of_lightgbm_pass_and_predict_the_same():
    short = checked_trees(TEXT)
    assert "end of trees" in short and "tree_sizes" not in short and "[learning_rate" not in short
    np.testing.assert_allclose(Trees(TEXT).probabilities(X), PATH._booster.predict(X), rtol=1e-12)
    constant = BoostedPath(np.zeros_like(X), np.arange(200) < 50, 2).head(2)
    np.testing.assert_allclose(constant.probabilities(X[:3]), 0.25)


def line(key, tree=0):
    """The first line of a key at or after a tree."""
    return next(row for row in TEXT.split(f"Tree={tree}\n")[1].split("\n") if row.startswith(f"{key}="))


def first(key, value):
    """TEXT with another first number of a key in the first tree."""
    old = line(key)
    rest = old.partition("=")[2].split(" ")[1:]
    return TEXT.replace(old, f"{key}={' '.join([str(value), *rest])}", 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (first("split_feature", 999_999_999), "tree 0: split_feature is out of range"),
        (first("split_feature", -1), "split_feature is out of range"),
        (first("left_child", 0), "left_child is out of range"),
        (first("right_child", -99), "right_child is out of range"),
        (first("num_leaves", 10**9), "too many leaves"),
        (first("num_leaves", 3), "must have 3 finite numbers"),
        (first("num_cat", 1), "categories"),
        (first("threshold", "nan"), "threshold must have"),
        (first("leaf_value", "inf"), "leaf_value must have"),
        (first("decision_type", 1), "decision_type"),
        (TEXT.replace("max_feature_idx=5", "max_feature_idx=2000000000"), "too many features"),
        (TEXT.replace("max_feature_idx=5", "max_feature_idx=9"), "its features are not named"),
        (TEXT.replace("num_class=1", "num_class=3"), "not of one class"),
        (TEXT.replace("Tree=1\n", "Tree=7\n"), "tree 1 is missing"),
        (TEXT.replace(line("num_cat"), f"{line('num_cat')}\n{line('num_cat')}", 1), "a line is there twice"),
        (TEXT.partition("\nend of trees")[0], "it has no trees"),
        ("tree\nend of trees\n", "it has no trees"),
        ("", "it has no trees"),
    ],
)
def test_hostile_trees_are_refused(text, message):
    with pytest.raises(UserError, match="not a text model of LightGBM") as refused:
        Trees(text).probabilities(X)
    assert message in str(refused.value)
