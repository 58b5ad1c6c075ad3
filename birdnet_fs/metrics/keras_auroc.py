"""Exact macro class-wise AUROC as a Keras metric, on the torch and the TensorFlow backend.

Keras' own AUC counts at fixed thresholds and gives .43 for a true .86 when the scores crowd together. This
one keeps every score until `reset_state` and computes `metrics.macro_auroc`: exact, ties averaged.
"""

import warnings
from typing import Any

import keras
import numpy as np

from birdnet_fs.metrics.classification import AUROC, macro_auroc


@keras.saving.register_keras_serializable(package="birdnet_fs")
class ClassWiseAUC(keras.metrics.Metric):
    """Mean over the classes of the area under the ROC curve, for `model.compile(metrics=[ClassWiseAUC()])`.

    `y_true` is [batch, n_classes] of 0 and 1, or [batch] (or [batch, 1]) of class numbers; `y_pred` is
    [batch, n_classes], logits or probabilities. Classes without a positive or without a negative are left
    out; once all rows of an epoch are in, `per_class()` and `skipped()` say which, and a warning names them
    the first time `per_class()` or `skipped()` is asked or the metric is reset with such classes.

    Memory: 5 bytes per row and class (100,000 rows of 206 classes: 103 MB). Keras asks for the result after
    every batch, which costs about 1 ms per 1,000 rows held and 100 classes; for large training sets compute
    it on validation data only, in a callback. Under `tf.distribute` each replica would hold its own rows:
    not supported. Sample weights are refused.

    Args:
        classes: Names for the warning; None = numbers.
        name: Of the metric in the logs.
        dtype: As Keras gives it; the result is always float64 on the torch backend.
    """

    def __init__(self, classes: list[str] | None = None, name: str = "auc", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.classes = list(classes) if classes is not None else None
        self._warned = False
        self._empty()

    def _empty(self) -> None:
        self._held = _Buffer()

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Keep a batch."""
        if sample_weight is not None:
            raise ValueError("ClassWiseAUC takes no sample weights: list it under metrics, not weighted_metrics.")
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            # inside fit this is a graph: the batch is handed out of it, in order, when the graph runs
            return tf.numpy_function(self._keep, [y_true, y_pred], [], stateful=True)
        if "meta" in str(getattr(y_pred, "device", "")):  # Keras traces the step with tensors that hold nothing
            return None
        self._keep(keras.ops.convert_to_numpy(y_true), keras.ops.convert_to_numpy(y_pred))
        return None

    def _keep(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        self._held.add(y_true, y_pred)

    def result(self) -> Any:
        """The mean over the scored classes so far, float64; 0 before any class can be scored."""
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            value = tf.numpy_function(self._value, [], tf.float64, stateful=True)
            value.set_shape(())
            return value
        return self._value()

    def _value(self) -> np.float64:
        return np.float64(np.nan_to_num(self._held.auroc().value))

    def per_class(self) -> np.ndarray:
        """The area of each class so far, float64 [n_classes]; nan for the classes that are skipped."""
        self._warn()
        return self._held.auroc().per_class

    def skipped(self) -> tuple[int, ...]:
        """Classes without positives or without negatives so far."""
        self._warn()
        return self._held.auroc().skipped

    def reset_state(self) -> None:
        """Forget everything that was kept."""
        self._warn()
        self._empty()

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs."""
        return {"name": self.name, "classes": self.classes}

    def _warn(self) -> None:
        skipped = self._held.auroc().skipped
        if skipped and not self._warned:
            self._warned = True
            names = [self.classes[c] if self.classes else str(c) for c in skipped]
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            warnings.warn(
                f"{self.name} leaves out {len(names)} of {self._held.n_classes} classes, which have no positive or "
                f"no negative: {', '.join(names[:10])}{more}.",
                stacklevel=3,
            )


class _Buffer:
    """The rows of an epoch; computed again only after new rows came."""

    def __init__(self) -> None:
        self.n_classes = 0
        self._targets: list[np.ndarray] = []
        self._scores: list[np.ndarray] = []
        self._auroc: AUROC | None = None

    def add(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        scores = np.array(y_pred, dtype=np.float32)
        self.n_classes = scores.shape[-1]
        if y_true.shape != scores.shape:
            if y_true.size != len(scores):
                raise ValueError(
                    f"y_true must be [batch, n_classes] or [batch]. Received: {y_true.shape} beside {scores.shape}"
                )
            y_true = np.asarray(y_true).reshape(-1, 1) == np.arange(self.n_classes)
        if not ((y_true == 0) | (y_true == 1)).all():
            raise ValueError("ClassWiseAUC needs targets of 0 and 1: turn off label smoothing and mixup for it.")
        self._targets.append(np.asarray(y_true) != 0)
        self._scores.append(scores)
        self._auroc = None

    def auroc(self) -> AUROC:
        if self._auroc is None:
            if not self._targets:
                return AUROC(float("nan"), np.zeros(0), 0, ())
            # one array each, so that the next call joins little
            self._targets = [np.concatenate(self._targets)]
            self._scores = [np.concatenate(self._scores)]
            self._auroc = macro_auroc(self._targets[0], self._scores[0])
        return self._auroc
