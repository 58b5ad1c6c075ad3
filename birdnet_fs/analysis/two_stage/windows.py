"""Predictions of one window each, in the form of ANIMAL-SPOT."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.options import no_call_classes
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

NOISE = "noise"


@dataclass(frozen=True)
class Classes:
    """Classes of a classifier as the log numbers them.

    Attributes:
        names: Class names in model order, followed by "noise" where the model has no class for it.
        noise: Indices of the classes that mean that nothing calls.
        n_model: Number of classes of the model.
    """

    names: tuple[str, ...]
    noise: tuple[int, ...]
    n_model: int

    @property
    def is_binary(self) -> bool:
        """Whether there are two classes, one of them noise: the log then has the probability of the other one."""
        return len(self.names) == 2 and len(self.noise) == 1


def log_classes(names: Sequence[str]) -> Classes:
    """Number the classes of a model.

    Args:
        names: Class names in model order.

    Returns:
        The numbered classes.

    Raises:
        UserError: All of them mean that nothing calls.
    """
    noise = no_call_classes(names)
    if len(noise) == len(names):
        raise UserError("The classifier must have a class that is a detection. Received: only names such as noise.")
    if noise:
        return Classes(tuple(names), noise, len(names))
    return Classes((*names, NOISE), (len(names),), len(names))


def call_probabilities(probabilities: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
    """Probability of a call by a detector: 1 - p(noise), or that of its only class.

    Args:
        probabilities: float32 [n_windows, n_classes].
        names: Class names of the detector.

    Returns:
        float32 [n_windows].

    Raises:
        UserError: The detector has no class of noise and more than one class.
    """
    noise = no_call_classes(names)
    if noise and len(noise) < len(names):
        return np.clip(1 - probabilities[:, list(noise)].sum(axis=1), 0, 1).astype(np.float32)
    if len(names) == 1 and not noise:
        return np.asarray(probabilities[:, 0], np.float32)
    shown = ", ".join(map(escaped, names[:5]))
    raise UserError(
        "The detector of --two_stage must have a class noise (or nocall, background) beside its calls, or one class "
        f"of calls. Received: {shown}"
    )


@dataclass(frozen=True)
class WindowPredictions:
    """The prediction of every window of a recording.

    Attributes:
        class_index: int64 [n_windows], index into `Classes.names`.
        probability: float32 [n_windows]: that of the class; with two classes, that of the one that is not noise.
        detected: bool [n_windows], whether the class is a detection.
    """

    class_index: NDArray[np.int64]
    probability: NDArray[np.float32]
    detected: NDArray[np.bool_]


def predict_windows(
    probabilities: NDArray[np.float32],
    calls: NDArray[np.float32] | None,
    passed: NDArray[np.bool_],
    classes: Classes,
    threshold: float,
) -> WindowPredictions:
    """Combine classifier and detector.

    Args:
        probabilities: float32 [n_passed, n_model] of the windows that the detector let pass.
        calls: float32 [n_windows], probability of a call by the detector; None without one.
        passed: bool [n_windows], whether the classifier scored the window.
        classes: Classes of the classifier.
        threshold: Lowest probability of a detection.

    Returns:
        The predictions. A window that did not pass is noise, with the probability 1 - call, or with two classes not
        detected, with that of a call.
    """
    n, noise = len(passed), classes.noise[0]
    index, value = np.full(n, noise), np.zeros(n, np.float32)
    detected = np.zeros(n, bool)
    if calls is not None:
        value[~passed] = calls[~passed] if classes.is_binary else 1 - calls[~passed]
    if classes.is_binary:
        call = 1 - noise
        has_column = call < classes.n_model and noise < classes.n_model
        value[passed] = probabilities[:, call] if has_column else probabilities[:, 0]
        detected[passed] = value[passed] >= np.float32(threshold)
        index[detected] = call
    else:
        best = probabilities.argmax(axis=1)
        index[passed] = best
        value[passed] = np.take_along_axis(probabilities, best[:, None], axis=1)[:, 0]
        detected[passed] = (value[passed] >= np.float32(threshold)) & ~np.isin(best, classes.noise)
    return WindowPredictions(index.astype(np.int64), value, detected)
