"""Sentences on evaluations that show nothing: one clip, one predicted class, accuracy at chance."""

from typing import Any

import numpy as np
import pytest

from birdnet_fs.reports.evaluate import evaluate_scores
from birdnet_fs.reports.remarks import episode_remarks


def remarks(labels: list[int], predicted: list[int], n_classes: int = 4, groups: list[str] | None = None) -> list[str]:
    """Remarks on single-label clips whose highest scores are of `predicted`."""
    return evaluated(labels, np.eye(n_classes)[predicted] * 0.6 + 0.1, groups)["remarks"]


def evaluated(labels: list[int], scores: np.ndarray, groups: list[str] | None = None, **options: Any) -> dict[str, Any]:
    targets = np.eye(scores.shape[1])[labels]
    names = [f"species{c}" for c in range(scores.shape[1])]
    groups = groups or [str(i) for i in range(len(labels))]
    return evaluate_scores(targets, scores, names, groups, multi_label=options.get("multi_label", False))


LABELS = [0, 1, 2, 3] * 4


def test_nothing_is_said_of_an_evaluation_that_shows_something() -> None:
    assert remarks(LABELS, LABELS) == []


def test_one_predicted_class_is_named() -> None:
    found = remarks(LABELS, [2] * 16)
    assert found[0] == "All predictions (16 of 16 clips) are species2, the only class ever predicted."
    assert len(found) == 2 and "0.25 (4 of 16) is not above chance" in found[1]
    assert "only class" not in " ".join(remarks([2] * 16, [2] * 16))  # the other classes do not occur


@pytest.mark.parametrize(
    ("labels", "groups", "words"),
    [
        ([0], None, "Only one clip was evaluated (n = 1)"),
        ([0, 1, 2], ["a", "a", "a"], "All clips are of one recording (n = 1)"),
        ([0, 1, 2, 3], None, "Every class has one clip here (n = 1)"),
        ([0, 0, 1, 2, 2], None, "1 of 3 classes have one clip here (n = 1): species1."),
    ],
)
def test_single_clips_and_recordings_are_said(labels: list[int], groups: list[str] | None, words: str) -> None:
    assert remarks(labels, labels, groups=groups)[0].startswith(words)


@pytest.mark.parametrize(("n_right", "is_said"), [(1, True), (7, True), (8, False), (16, False)])
def test_accuracy_at_chance_is_said_by_a_binomial_test(n_right: int, is_said: bool) -> None:
    """Of 16 clips of 4 classes, 8 or more right have a probability of .027 by chance, 7 or more one of .080."""
    predicted = [label if i < n_right else (label + 1 + i % 2) % 4 for i, label in enumerate(LABELS)]
    found = remarks(LABELS, predicted)
    assert any(f"({n_right} of 16) is not above chance" in sentence for sentence in found) == is_said


def test_multi_label_remarks_name_missing_predictions_and_random_ranking() -> None:
    rng = np.random.default_rng(0)
    found = evaluated(LABELS, rng.uniform(0.1, 0.4, (16, 4)), multi_label=True)["remarks"]
    assert found[0] == "No class is predicted in any of the 16 clips: no score reaches 0.5."
    assert "macro AUROC" in found[1] and "random scores give 0.50" in found[1]
    assert evaluated(LABELS, np.eye(4)[LABELS], multi_label=True)["remarks"] == []


@pytest.mark.parametrize(
    ("accuracy", "interval", "n"), [(0.2, [0.15, 0.3], 1), (0.6, [0.5, 0.7], 0), (0.3, [None] * 2, 0)]
)
def test_few_shot_accuracy_at_chance_is_said(accuracy: float, interval: list[float | None], n: int) -> None:
    found = episode_remarks({"test_acc": accuracy, "test_acc_ci": interval, "n_way": 5})
    assert len(found) == n and all("guessing one of 5 classes gives 0.20" in sentence for sentence in found)
