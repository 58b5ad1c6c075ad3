"""Validation of a classifier after each epoch: the columns `val_...` of history.csv."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

from birdnet_fs import schema
from birdnet_fs.core import stopping
from birdnet_fs.core.distributed import group
from birdnet_fs.core.distributed.exchange import gather_rows, part_of
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.clips import score_waveforms, score_windows
from birdnet_fs.inference.engine import lowered_network
from birdnet_fs.metrics import classification
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.runs.history import accuracy_columns


def supervised_validation(
    model: keras.Model,
    waveforms: Waveforms,
    targets: np.ndarray,
    experiment: schema.Experiment,
    classes: tuple[str, ...],
    kept: Sequence[np.ndarray] | None = None,
) -> Callable[[], dict[str, float]]:
    """Build the function that scores the validation clips as `evaluate` would score them with the present weights.

    Args:
        model: The network, float32 logits [batch, n_classes].
        waveforms: The validation clips.
        targets: float32 [n_clips, n_classes], 0 or 1.
        experiment: Uses `frontend` and `data`. With `data.multi_label` all classes with a probability of 0.5 or more
            are predicted, else the most probable one.
        classes: Names in the order of the targets.
        kept: Features of the windows of each clip, float32 [n_windows, n_frames, n_mels]. Default: None, they are
            computed in every epoch.

    Returns:
        A function that returns val_loss (cross-entropy of the probabilities), val_acc, val_precision, val_recall,
        val_f1 (means over the classes that occur), val_macro_auroc and the accuracy of each class; undefined metrics
        are NaN. It raises FloatingPointError when a score is not finite. Of several processes that train together, each
        scores its part of the clips, and all return the metrics of all clips.
    """
    spec, data = experiment.frontend, experiment.data
    multi_label = data.multi_label
    rule = clip_rule(spec.n_samples, spec.sample_rate_hz, data.clip_hop_s)

    def validate() -> dict[str, float]:
        network = lowered_network(model)  # lowering reads the weights, which change from epoch to epoch

        def logits_of_windows(windows: np.ndarray) -> np.ndarray:
            return logits_of(log_mel(windows, spec))

        def logits_of(features: np.ndarray) -> np.ndarray:
            return network(network_input(features, spec))

        # a clip is scored on its own, so that the scores are the same however the clips are divided
        own = range(*part_of(len(waveforms)))
        scores = np.zeros((0, len(classes)), np.float32)
        if own and kept is None:
            each = (waveforms[i] for i in own if not _stopped())
            scores = score_waveforms(logits_of_windows, each, rule=rule, activation=data.activation)
        elif own and kept is not None:
            features = (kept[i] for i in own if not _stopped())
            scores = score_windows(logits_of, features, activation=data.activation)
        scores = gather_rows(scores)
        if not np.isfinite(scores).all():
            raise FloatingPointError("A score of a validation clip")
        return validation_metrics(targets, scores, classes, multi_label=multi_label)

    return validate


def _stopped() -> bool:
    """False, or `Stopped` for a signal that is held back during the steps of several processes."""
    if group.size() > 1 and (number := stopping.received()):
        stopping.stop(number)
    return False


def validation_metrics(
    targets: np.ndarray, scores: np.ndarray, classes: Sequence[str], *, multi_label: bool
) -> dict[str, float]:
    """The columns `val_...` of history.csv.

    Args:
        targets: float32 [n_clips, n_classes], 0 or 1.
        scores: Probabilities [n_clips, n_classes].
        classes: Names in the order of the columns.
        multi_label: Whether a clip may have any number of classes.

    Returns:
        Values by column, as `supervised_validation` describes them.
    """
    report = classification.classification_report(targets, scores, multi_label=multi_label)
    accuracy = classification.exact_match if multi_label else classification.accuracy
    return {
        "val_loss": classification.log_loss(targets, scores, multi_label=multi_label),
        "val_acc": accuracy(targets, scores),
        **{f"val_{name}": value for name, value in report.macro.items()},
        "val_macro_auroc": macro_auroc(targets, scores).value,
        **accuracy_columns("val", classes, report.recall.tolist()),
    }
