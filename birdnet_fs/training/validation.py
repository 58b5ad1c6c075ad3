"""How well a classifier does on the validation clips as it stands: the columns `val_...` of history.csv."""

from collections.abc import Callable

import keras
import numpy as np

from birdnet_fs import schema
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.clips import score_waveforms
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
) -> Callable[[], dict[str, float]]:
    """A function that scores the clips as `evaluate` would score them if the run ended now (inference/clips.py).

    Args:
        model: The network, float32 logits [batch, n_classes].
        waveforms: The validation clips.
        targets: [n_clips, n_classes], 0 or 1.
        experiment: Its `frontend` is that of the network. With `data.multi_label` classes are called from a
            probability of one half on, else the likeliest is.
        classes: Names in the order of the targets.

    Returns:
        val_loss (cross-entropy of the probabilities), val_acc, val_precision, val_recall, val_f1 (means over the
        classes that occur), val_macro_auroc, and the accuracy of each class; what is undefined is nan.
    """
    spec, data = experiment.frontend, experiment.data
    multi_label = data.multi_label
    rule = clip_rule(spec.n_samples, spec.sample_rate_hz)

    def validate() -> dict[str, float]:
        network = lowered_network(model)  # with the weights of this epoch

        def logits_of(windows: np.ndarray) -> np.ndarray:
            return network(network_input(log_mel(windows, spec), spec))

        read = (waveforms[i] for i in range(len(waveforms)))
        scores = score_waveforms(logits_of, read, rule=rule, activation=data.activation)
        called = classification.classification_report(targets, scores, multi_label=multi_label)
        right = classification.exact_match if multi_label else classification.accuracy
        return {
            "val_loss": classification.log_loss(targets, scores, multi_label=multi_label),
            "val_acc": right(targets, scores),
            **{f"val_{name}": value for name, value in called.macro.items()},
            "val_macro_auroc": macro_auroc(targets, scores).value,
            **accuracy_columns("val", classes, called.recall.tolist()),
        }

    return validate
