"""Exact macro class-wise AUROC as a Keras metric, on the torch and the TensorFlow backend.

Keras' own AUC counts at fixed thresholds and gives .43 for a true .86 when the scores are close together. This metric
stores every score until `reset_state` and computes `auroc.macro_auroc`: exact, ties averaged.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.metrics.auroc import AUROC, checked, macro_auroc


def _not_compiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Keep torch.compile (`jit_compile=True` on the torch backend) from tracing NumPy code."""
    if keras.backend.backend() != "torch":
        return method
    import torch

    return torch.compiler.disable(method)


@keras.saving.register_keras_serializable(package="birdnet_fs")
class ClassWiseAUC(keras.metrics.Metric):
    """Mean over the classes of the area under the ROC curve, for `model.compile(metrics=[ClassWiseAUC()])`.

    Classes without a positive or without a negative are left out. `skipped()` returns them, and a warning names them
    the first time that `per_class()`, `skipped()` or `reset_state()` is called with such classes.

    Memory: 5 bytes per row and class (100,000 rows of 206 classes: 103 MB), 9 with float64 scores. Keras computes the
    result after every batch, which takes about 1 ms per 1,000 stored rows and 100 classes; for large training sets
    compute it on validation data only, in a callback.

    On TensorFlow the metric leaves the graph for NumPy, which XLA cannot compile: a model compiled with
    `jit_compile=True` is refused while its step is traced, before the first batch. Under `tf.distribute` each replica
    would hold its own rows: not supported.

    Args:
        classes: Names of the classes for the warning, in the order of the outputs. Default: None (numbers).
        name: Name of the metric in the logs. Default: "auc".
        dtype: Argument of every Keras metric; without effect, since scores are compared in the precision of `y_pred`.
            Default: None.
        positive_from: Smallest target of a positive, above 0, up to 1, for mixed or smoothed labels. Default: None,
            targets must be 0 or 1.

    Raises:
        UserError: `positive_from` is out of range.

    Example:
        >>> metric = ClassWiseAUC()
        >>> metric.update_state([0, 1, 1], [0.2, 0.4, 0.1])
        >>> float(metric.result())
        0.5
    """

    def __init__(
        self,
        classes: list[str] | None = None,
        name: str = "auc",
        dtype: Any = None,
        *,
        positive_from: float | None = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if positive_from is not None and not 0 < positive_from <= 1:
            raise UserError(f"positive_from must be None, or above 0 and up to 1. Received: {positive_from}")
        self.positive_from = positive_from
        self.classes = list(classes) if classes is not None else None
        self._warned = False
        self._rows = _EpochRows()

    @_not_compiled
    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Store a batch.

        Args:
            y_true: [batch, n_classes] of 0 and 1, or class numbers from 0 of shape [batch] or [batch, 1]. Beside one
                output, [batch] and [batch, 1] hold 0 or 1.
            y_pred: [batch, n_classes], or [batch] for one output; logits or probabilities.
            sample_weight: Must be None.

        Returns:
            None; in a TensorFlow graph the operation that stores the batch.

        Raises:
            UserError: Shapes do not fit, a class number is out of range, a target is neither 0 nor 1 (without
                `positive_from`), a score is NaN, sample weights are given, or XLA compiles the step. In a TensorFlow
                graph the message is part of an InvalidArgumentError.
        """
        if sample_weight is not None:
            raise UserError(
                "ClassWiseAUC takes no sample weights; pass it to compile in metrics, not weighted_metrics."
            )
        # Keras would convert a list to float32
        y_true, y_pred = (x if keras.ops.is_tensor(x) else np.asarray(x) for x in (y_true, y_pred))
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if not tf.executing_eagerly():
                _refuse_xla(tf.compat.v1.get_default_graph())
                # the batch leaves the graph, in order, when the graph runs
                return tf.numpy_function(self._add_batch, [y_true, y_pred], [], stateful=True)
        if "meta" in str(getattr(y_pred, "device", "")):  # Keras traces the step with tensors that hold nothing
            return None
        self._add_batch(keras.ops.convert_to_numpy(y_true), keras.ops.convert_to_numpy(y_pred))
        return None

    def _add_batch(self, y_true: NDArray, y_pred: NDArray) -> None:
        n_names = len(self.classes) if self.classes is not None else None
        self._rows.add(y_true, y_pred, n_names, self.positive_from)

    @_not_compiled
    def result(self) -> Any:
        """Mean over the scored classes so far.

        Returns:
            float64 tensor [], on torch in main memory; 0 before the first row, nan while no class has both a positive
            and a negative.
        """
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            value = tf.numpy_function(self._value, [], tf.float64, stateful=True)
            value.set_shape(())
            return value
        import torch

        return torch.as_tensor(self._value())

    def _value(self) -> np.float64:
        return np.float64(self._rows.auroc().value if self._rows.n_classes else 0)

    def per_class(self) -> NDArray[np.float64]:
        """AUROC of each class so far, float64 [n_classes]; nan for the classes that are skipped."""
        self._warn()
        return self._rows.auroc().per_class

    def skipped(self) -> tuple[int, ...]:
        """Numbers of the classes without positives or without negatives so far."""
        self._warn()
        return self._rows.auroc().skipped

    def reset_state(self) -> None:
        """Remove all rows."""
        self._warn()
        self._rows = _EpochRows()

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, for `from_config`."""
        return {
            **super().get_config(),
            "classes": self.classes,
            "positive_from": self.positive_from,
        }

    def _warn(self) -> None:
        skipped = self._rows.auroc().skipped
        if skipped and not self._warned:
            self._warned = True
            names = [self.classes[c] if self.classes else str(c) for c in skipped]
            more = f" and {len(names) - 10} more" if len(names) > 10 else ""
            warnings.warn(
                f"{self.name} leaves out {len(names)} of {self._rows.n_classes} classes, which have no positive or "
                f"no negative: {', '.join(names[:10])}{more}.",
                stacklevel=3,
            )


class _EpochRows:
    """Targets and scores of an epoch; the AUROC is computed again only after new rows were added."""

    def __init__(self) -> None:
        self.n_classes = 0
        self._targets: list[NDArray[np.bool_]] = []
        self._scores: list[NDArray] = []
        self._auroc: AUROC | None = None

    def add(self, y_true: NDArray, y_pred: NDArray, n_names: int | None, positive_from: float | None) -> None:
        scores = np.array(y_pred)  # a copy: the backend may write the next batch into the same memory
        if scores.ndim == 1:
            scores = scores[:, None]
        if scores.ndim != 2:
            raise UserError(f"ClassWiseAUC: y_pred must be [batch, n_classes] or [batch]. Received: {y_pred.shape}")
        n_classes = scores.shape[1]
        for n, source in ((n_names, "classes names"), (self.n_classes, "earlier batches have")):
            if n not in (None, 0, n_classes):
                raise UserError(f"ClassWiseAUC: y_pred has {n_classes} classes but {source} {n}: make them agree.")
        targets, scores = checked(_hard(_multi_hot(y_true, *scores.shape), positive_from), scores)
        self.n_classes = n_classes
        self._targets.append(targets)
        self._scores.append(scores)
        self._auroc = None

    def auroc(self) -> AUROC:
        if self._auroc is None:
            if not self._targets:
                return AUROC(float("nan"), np.zeros(0), 0, ())
            # one array each, so that the next call concatenates little
            self._targets = [np.concatenate(self._targets)]
            self._scores = [np.concatenate(self._scores)]
            self._auroc = macro_auroc(self._targets[0], self._scores[0])
        return self._auroc


def _hard(targets: NDArray, positive_from: float | None) -> NDArray:
    """Targets of 0 and 1 from those of mixed or smoothed labels; others stay, for `checked` to refuse."""
    if positive_from is not None and ((targets >= 0) & (targets <= 1)).all():
        return targets >= positive_from
    if ((targets > 0) & (targets < 1)).any():
        raise UserError(
            "ClassWiseAUC: targets must be 0 or 1, and mixup or label smoothing makes others. Pass "
            "ClassWiseAUC(positive_from=0.5) to count targets from 0.5 on as positives."
        )
    return targets


def _multi_hot(y_true: NDArray, n_rows: int, n_classes: int) -> NDArray:
    """Multi-hot targets [n_rows, n_classes], from these or from class numbers [n_rows] or [n_rows, 1]."""
    if y_true.shape == (n_rows, n_classes):
        return y_true
    if y_true.shape not in ((n_rows,), (n_rows, 1)):
        raise UserError(
            "ClassWiseAUC: y_true must be [batch, n_classes], or class numbers [batch]. "
            f"Received: {y_true.shape} beside y_pred of {(n_rows, n_classes)}"
        )
    numbers, classes = y_true.reshape(-1, 1), np.arange(n_classes)
    if n_classes == 1:  # one output has two classes, absent and present, and no class numbers
        return numbers
    out_of_range = numbers[~np.isin(numbers, classes)]
    if len(out_of_range):
        raise UserError(
            f"ClassWiseAUC: class numbers must be whole numbers from 0 to {n_classes - 1}, the last output. "
            f"Received: {out_of_range[0]}. Give the model an output for every class, or correct the labels."
        )
    return numbers == classes


def _refuse_xla(graph: Any) -> None:
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    if GraphOrParentsInXlaContext(graph):
        raise UserError(
            "ClassWiseAUC is computed in NumPy, which XLA cannot compile: pass jit_compile=False to model.compile "
            "(its default, 'auto', means True where TensorFlow finds a GPU)."
        )
