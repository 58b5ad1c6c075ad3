"""How well a classifier does on the validation clips as it stands: the columns `val_...` of history.csv."""

from collections.abc import Callable

import keras
import numpy as np
import torch

from birdnet_fs import schema
from birdnet_fs.batches.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.models.lowering import lower
from birdnet_fs.recordings.windows import clip_rule
from birdnet_fs.training import metrics
from birdnet_fs.training.history import per_class_accuracy

BATCH = 64


def validation(
    model: keras.Model,
    waveforms: Waveforms,
    targets: np.ndarray,
    spec: schema.FrontEnd,
    classes: tuple[str, ...],
    *,
    multi_label: bool,
) -> Callable[[], dict[str, float]]:
    """A function that scores the clips, each by the mean of the probabilities of the windows that cover it.

    Args:
        model: The network, float32 logits [batch, n_classes].
        waveforms: The validation clips.
        targets: [n_clips, n_classes], 0 or 1.
        spec: Front-end of the network.
        classes: Names in the order of the targets.
        multi_label: Classes are called from a probability of one half on, else the likeliest is.

    Returns:
        val_loss (cross-entropy of the probabilities), val_acc, val_precision, val_recall, val_f1 (means over the
        classes that occur), val_macro_auroc, and the accuracy of each class; what is undefined is nan.
    """
    forward = lower(model)
    device = model.trainable_variables[0].value.device
    rule = clip_rule(spec.n_samples, spec.sample_rate_hz)

    def score(waveform: np.ndarray) -> np.ndarray:
        windows = rule.cut(waveform)
        total = np.zeros(len(classes))
        for start in range(0, len(windows), BATCH):
            features = network_input(log_mel(windows[start : start + BATCH], spec), spec)
            logits = forward(torch.from_numpy(features).to(device)).float()
            total += (torch.sigmoid(logits) if multi_label else logits.softmax(1)).sum(0).cpu().numpy()
        return total / len(windows)

    def validate() -> dict[str, float]:
        with torch.inference_mode():
            scores = np.stack([score(waveforms[i]) for i in range(len(waveforms))])
        called = metrics.called_of(targets, scores, multi_label=multi_label)
        right = metrics.exact_match if multi_label else metrics.accuracy
        return {
            "val_loss": metrics.log_loss(targets, scores, multi_label=multi_label),
            "val_acc": right(targets, scores),
            **{f"val_{name}": value for name, value in called.macro.items()},
            "val_macro_auroc": metrics.macro_auroc(targets, scores).value,
            **per_class_accuracy("val", classes, called.recall.tolist()),
        }

    return validate
