"""Scores of held-out clips: calibration of logits, and the numbers by which heads and their settings are compared."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.inference.logit_scale import sigmoid_targets, softmax_targets
from birdnet_fs.metrics.auroc import macro_auroc
from birdnet_fs.metrics.classification import accuracy
from birdnet_fs.training.encoder_heads.data import HeadData

Doubles = NDArray[np.float64]
MAX_LOG_SCALE = 9.0  # of a calibration: factors from 1e-4 to 1e4
SMALLEST = 1e-12  # probability, below which the logarithm of a clip's probability is cut


@dataclass(frozen=True)
class HeldOutScore:
    """Scores of clips that were not fitted to.

    Attributes:
        log_loss: Mean cross-entropy of the clips' probabilities; of known targets only.
        macro_auroc: Mean over the classes; nan where none has positives and negatives.
        accuracy: Share of the clips whose most probable class is right; nan with several labels per clip.
    """

    log_loss: float
    macro_auroc: float
    accuracy: float


def probabilities(logits: NDArray, data: HeadData, *, multi_label: bool) -> Doubles:
    """Mean of the probabilities over the windows of each clip.

    Args:
        logits: [n_windows, n_classes] of the windows of `data`.
        data: The clips.
        multi_label: Sigmoid for each class, else one softmax.

    Returns:
        float64 [n_clips, n_classes].
    """
    return data.means(to_probabilities(logits, "sigmoid" if multi_label else "softmax"))


def held_out_score(logits: NDArray, data: HeadData, *, multi_label: bool) -> HeldOutScore:
    """Score clips.

    Args:
        logits: [n_windows, n_classes] of the windows of `data`.
        data: The clips.
        multi_label: Sigmoid for each class, else one softmax.

    Returns:
        The scores. A soft target counts as a label from 0.5 for AUROC and accuracy.
    """
    p = probabilities(logits, data, multi_label=multi_label)
    truth = data.targets >= 0.5
    values = [
        macro_auroc(truth[known, c : c + 1], p[known, c : c + 1]).value
        for c, known in enumerate(data.known.T)
        if known.any()
    ]
    defined = [value for value in values if not np.isnan(value)]
    return HeldOutScore(
        _cross_entropy(p, np.clip(data.targets, 0, 1), data.known, multi_label),
        float(np.mean(defined)) if defined else float("nan"),
        float("nan") if multi_label else float(accuracy(truth, p)),
    )


def calibrate(logits: NDArray, data: HeadData, *, multi_label: bool, keep_scale: bool = False) -> tuple[float, Doubles]:
    """The scale and shift of logits at which the probabilities of the clips fit their labels best.

    One scale for all classes, and with `multi_label` one shift for each (Platt 1999, "Probabilistic Outputs for Support
    Vector Machines", with its targets); otherwise the scale alone (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", https://arxiv.org/abs/1706.04599). The probabilities are the means over the windows of each clip.

    Args:
        logits: [n_windows, n_classes] of clips that were not fitted to.
        data: Data of the clips of `logits`.
        multi_label: Sigmoid for each class, else one softmax.
        keep_scale: Whether the scale stays 1. Default: False.

    Returns:
        Scale, above 0, and shift [n_classes].
    """
    known, n_classes = data.known & (data.targets.max(0) > 0), logits.shape[1]
    clipped = np.clip(data.targets, 0, 1)
    wanted = sigmoid_targets(clipped, data.known) if multi_label else softmax_targets(clipped)
    spread = float(np.abs(logits - (0 if multi_label else logits.mean(1, keepdims=True))).mean())
    if spread == 0 or not known.any():
        return 1.0, np.zeros(n_classes)
    z = np.asarray(logits, np.float64) / spread
    windows, clips = 1 / data.n_windows[data.clip], data.clip

    def loss_and_slope(found: Doubles) -> tuple[float, Doubles]:
        scale, shift = np.exp(found[0]), found[1:] if multi_label else 0.0
        each = to_probabilities(scale * z + shift, "sigmoid" if multi_label else "softmax")
        p = np.clip(data.means(each), SMALLEST, 1 - SMALLEST)
        if multi_label:
            loss = -(known * (wanted * np.log(p) + (1 - wanted) * np.log1p(-p))).sum() / known.sum()
            of_p = known * ((1 - wanted) / (1 - p) - wanted / p) / known.sum()
            of_z = of_p[clips] * windows[:, None] * each * (1 - each)
            return float(loss), np.concatenate([[(of_z * z).sum() * scale], of_z.sum(0)])
        of_p = (-wanted / p / len(p))[clips] * windows[:, None]
        of_z = each * (of_p - (each * of_p).sum(1, keepdims=True))
        return float(-(wanted * np.log(p)).sum() / len(p)), np.array([(of_z * z).sum() * scale])

    start = np.concatenate([[np.log(spread) if keep_scale else 0.0], np.zeros(n_classes if multi_label else 0)])
    bounds = [
        (start[0], start[0]) if keep_scale else (-MAX_LOG_SCALE, MAX_LOG_SCALE),
        *([(None, None)] * n_classes if multi_label else []),
    ]
    best = minimize(loss_and_slope, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return float(np.exp(best[0])) / spread, best[1:] if multi_label else np.zeros(n_classes)


def _cross_entropy(p: Doubles, targets: NDArray, known: NDArray, multi_label: bool) -> float:
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    if not multi_label:
        return float(-(targets * np.log(p)).sum(1).mean())
    loss = -(targets * np.log(p) + (1 - targets) * np.log1p(-p))
    return float(loss[known].mean()) if known.any() else float("nan")
