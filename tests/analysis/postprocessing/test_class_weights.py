"""Weights of classes are factors of the odds, read from tables that are checked."""

import numpy as np
import pytest

from birdnet_fs.analysis.postprocessing.class_weights import read_weights, weigh
from birdnet_fs.core.errors import UserError

CLASSES = ("Turdus merula_Blackbird", "Parus major_Great Tit", "nocall")


def test_a_prior_as_weight_is_bayes_rule():
    likelihood, prior = np.array([0.7, 0.2]), 0.1  # of the score with and without the class
    without_prior = likelihood[0] / likelihood.sum()
    expected = prior * likelihood[0] / (prior * likelihood[0] + (1 - prior) * likelihood[1])
    found = weigh(np.array([[without_prior]], np.float32), np.array([prior / (1 - prior)]))
    assert found[0, 0] == pytest.approx(expected, rel=1e-6)


def test_certain_scores_and_weights_of_0_stay_in_range():
    scores = np.array([[0.0, 1.0, 1.0, 0.5, 0.5]], np.float32)
    found = weigh(scores, np.array([5.0, 0.1, 0.0, 0.0, 1e6]))
    assert found[0, :4].tolist() == [0, 1, 0, 0] and 0.99999 < found[0, 4] <= 1


def test_tables_name_classes_as_species_lists_do(tmp_path):
    (tmp_path / "w.csv").write_text("weight,class\n2,turdus merula\n0.5,Parus major\n")
    assert read_weights(tmp_path / "w.csv", CLASSES).tolist() == [2, 0.5, 1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class\nnocall\n", "must have the columns"),
        ("class,weight,site\n", "must have the columns"),
        ("class,weight\nTurdus pilaris,2\n", "line 2: the class must be one of the model"),
        ("class,weight\nnocall,-1\n", "line 2: weight must be a number in 0"),
        ("class,weight\nnocall,x\n", "line 2: weight must be a number"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, words):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_weights(tmp_path / "w.csv", CLASSES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class,weight\n", "must have the columns class, hour, weight"),
        ("class,hour,weight\nnocall,24,1\n", r"hour must be a whole number in 0\.\.23"),
        ("class,hour,weight\nnocall,2.5,1\n", "hour must be a whole number"),
    ],
)
def test_wrong_hours_are_refused(tmp_path, text, words):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_weights(tmp_path / "w.csv", CLASSES, by_hour=True)


def test_a_missing_table_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_weights(tmp_path / "w.csv", CLASSES)
