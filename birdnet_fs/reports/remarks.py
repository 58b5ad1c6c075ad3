"""Sentences on metrics that look like a result and are none: one predicted class, a single clip, accuracy at chance.

They are the list `remarks` of metrics.json, stand in the report, and are printed by `train`, `evaluate` and `cv`.
"""

from collections.abc import Mapping
from typing import Any

from scipy.stats import binomtest

SIGNIFICANCE = 0.05  # an accuracy is above chance where chance would reach it less often than this
N_NAMED = 5  # classes in a sentence


def remarks(metrics: Mapping[str, Any], *, multi_label: bool) -> list[str]:
    """Name what limits the metrics of an evaluation of clips or segments.

    Args:
        metrics: The metrics: n_segments, n_groups, accuracy, macro_auroc_ci, and n_positives and n_predicted of each
            class in per_class.
        multi_label: Whether clips have any number of labels, predicted at a score of 0.5.

    Returns:
        Sentences, [] without a remark.
    """
    chance = _on_auroc(metrics) if multi_label else _on_accuracy(metrics)
    return [sentence for sentence in (_on_size(metrics), _on_predictions(metrics), chance) if sentence]


def episode_remarks(metrics: Mapping[str, Any]) -> list[str]:
    """Name a few-shot accuracy whose interval contains chance.

    Args:
        metrics: The metrics: test_acc, test_acc_ci and n_way.

    Returns:
        Sentences, [] without a remark.
    """
    low, chance = metrics["test_acc_ci"][0], 1 / metrics["n_way"]
    if metrics["test_acc"] > chance and (low is None or low > chance):
        return []
    return [
        f"The accuracy of {metrics['test_acc']:.2f} is not above chance: guessing one of {metrics['n_way']} classes "
        f"gives {chance:.2f}."
    ]


def _on_size(metrics: Mapping[str, Any]) -> str:
    """One clip in all, one recording in all, or one clip of a class."""
    n, present = metrics["n_segments"], [row for row in metrics["per_class"] if row["n_positives"]]
    if n == 1:
        return "Only one clip was evaluated (n = 1): its metrics do not describe other recordings."
    if metrics["n_groups"] == 1:
        return "All clips are of one recording (n = 1): the metrics do not describe other recordings."
    single = [row["name"] for row in present if row["n_positives"] == 1]
    if single and len(single) == len(present):
        return "Every class has one clip here (n = 1), so the recall of a class can only be 0 or 1."
    if single:
        more = f" and {len(single) - N_NAMED} more" if len(single) > N_NAMED else ""
        return (
            f"{len(single)} of {len(present)} classes have one clip here (n = 1): {', '.join(single[:N_NAMED])}{more}."
        )
    return ""


def _on_predictions(metrics: Mapping[str, Any]) -> str:
    """All clips predicted as one class, or none as any."""
    predicted = [row for row in metrics["per_class"] if row["n_predicted"]]
    present = [row for row in metrics["per_class"] if row["n_positives"]]
    if not predicted:
        return f"No class is predicted in any of the {metrics['n_segments']} clips: no score reaches 0.5."
    if len(predicted) == 1 and len(present) > 1:
        n, name = predicted[0]["n_predicted"], predicted[0]["name"]
        return f"All predictions ({n} of {metrics['n_segments']} clips) are {name}, the only class ever predicted."
    return ""


def _on_accuracy(metrics: Mapping[str, Any]) -> str:
    """Accuracy that a constant prediction could reach."""
    counts = [row["n_positives"] for row in metrics["per_class"]]
    n, accuracy = metrics["n_segments"], metrics["accuracy"]
    if accuracy is None or len([count for count in counts if count]) < 2:
        return ""
    chance, n_right = max(counts) / n, round(accuracy * n)
    if binomtest(n_right, n, chance, alternative="greater").pvalue <= SIGNIFICANCE:
        return ""
    return (
        f"The accuracy of {accuracy:.2f} ({n_right} of {n}) is not above chance: naming the most frequent class every "
        f"time gives {chance:.2f}, and a difference as small as this one is not significant with {n} clips."
    )


def _on_auroc(metrics: Mapping[str, Any]) -> str:
    """Macro AUROC whose interval contains that of random scores."""
    value, low = metrics["macro_auroc"], metrics["macro_auroc_ci"][0]
    if value is None or (value > 0.5 and (low is None or low > 0.5)):
        return ""
    return f"The macro AUROC of {value:.2f} is not above chance: random scores give 0.50."
