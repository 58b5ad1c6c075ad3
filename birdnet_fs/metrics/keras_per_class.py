"""Accuracy of each class as a Keras metric, on the torch and the TensorFlow backend.

The `PerClassAccuracy` of the ConvNeXt fork of ANIMAL-SPOT (Bergler et al. 2022,
https://doi.org/10.1038/s41598-022-26429-y): the share of the rows of a class that are predicted as it, which is its
recall. Only counts are stored, so that the metric works in a graph, with `jit_compile` and in large training sets.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from birdnet_fs.core.errors import UserError


@keras.saving.register_keras_serializable(package="birdnet_fs")
class PerClassAccuracy(keras.metrics.Metric):
    """Accuracy of each class and their mean, for `model.compile(metrics=[PerClassAccuracy(13)])`.

    Every row has one class, and the predicted class is that of the largest score. A class without rows has the accuracy
    nan and is left out of the mean. After a row whose class is none of 0..num_classes - 1 or whose scores hold NaN, all
    values are nan, and `per_class()` raises the reason.

    Args:
        num_classes: Number of classes, 2 or more.
        classes: Names of the classes, in the order of the outputs. Default: None (their numbers).
        name: Name of the metric, the prefix of the names in the logs. Default: "per_class_accuracy".
        dtype: Argument of every Keras metric; without effect, since counts are float64. Default: None.

    Raises:
        UserError: `num_classes` is below 2, or there are other than `num_classes` different names.

    Example:
        >>> metric = PerClassAccuracy(2, classes=["K1", "noise"])
        >>> metric.update_state([0, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.3, 0.7]])
        >>> {name: float(value) for name, value in metric.result().items()}
        {'per_class_accuracy/K1': 0.5, 'per_class_accuracy/noise': 1.0, 'mean_per_class_accuracy': 0.75}
    """

    def __init__(
        self,
        num_classes: int,
        classes: Sequence[str] | None = None,
        name: str = "per_class_accuracy",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 2:
            raise UserError(
                f"PerClassAccuracy: num_classes must be a whole number of 2 or more. Received: {num_classes!r}"
            )
        names = [str(c) for c in range(num_classes)] if classes is None else [str(c) for c in classes]
        if len(set(names)) != num_classes or len(names) != num_classes:
            raise UserError(
                f"PerClassAccuracy: classes must be num_classes ({num_classes}) different names. Received: {names}"
            )
        self.num_classes, self.classes = num_classes, None if classes is None else names
        self._names = names
        # float32 would stop counting at 2**24 rows
        self.n_rows = self.add_variable((num_classes,), "zeros", dtype="float64", name="n_rows")
        self.n_correct = self.add_variable((num_classes,), "zeros", dtype="float64", name="n_correct")
        self.n_invalid = self.add_variable((), "zeros", dtype="float64", name="n_invalid")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch.

        Args:
            y_true: Class numbers from 0 of shape [batch] or [batch, 1], or [batch, num_classes], whose largest number
                is that of the class (one-hot, also smoothed or mixed).
            y_pred: [batch, num_classes], logits or probabilities.
            sample_weight: Weight of each row in the counts, [batch]. Default: None (1).

        Raises:
            UserError: Shapes do not fit.
        """
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if len(y_pred.shape) != 2 or y_pred.shape[1] != self.num_classes:
            raise UserError(
                f"PerClassAccuracy: y_pred must be [batch, {self.num_classes}] (num_classes). Received: "
                f"{tuple(y_pred.shape)}"
            )
        width = y_true.shape[1] if len(y_true.shape) == 2 else 1 if len(y_true.shape) == 1 else None
        if width not in (1, self.num_classes):
            raise UserError(
                f"PerClassAccuracy: y_true must be class numbers [batch], or [batch, {self.num_classes}]. Received: "
                f"{tuple(y_true.shape)}"
            )
        numbers = ops.reshape(y_true, (-1,)) if width == 1 else ops.argmax(y_true, axis=1)
        numbers_of_classes = ops.arange(self.num_classes, dtype="float64")
        # a class number that is no whole number, or out of range, equals none of these
        is_class = ops.cast(ops.cast(numbers, "float64")[:, None] == numbers_of_classes, "float64")
        predicted = ops.cast(ops.argmax(y_pred, axis=1), "float64")
        is_predicted = ops.cast(predicted[:, None] == numbers_of_classes, "float64")
        is_valid = ops.logical_and(ops.any(is_class > 0, axis=1), ops.logical_not(ops.any(ops.isnan(y_pred), axis=1)))
        self.n_invalid.assign_add(ops.sum(ops.cast(ops.logical_not(is_valid), "float64")))
        if sample_weight is not None:
            is_class = is_class * ops.reshape(ops.cast(sample_weight, "float64"), (-1, 1))
        self.n_rows.assign_add(ops.sum(is_class, axis=0))
        self.n_correct.assign_add(ops.sum(is_class * is_predicted, axis=0))

    def result(self) -> dict[str, Any]:
        """Values so far.

        Returns:
            `NAME/CLASS` and `mean_NAME` -> float64 tensor []; nan where undefined.
        """
        values = self._accuracies()
        defined = ops.logical_not(ops.isnan(values))
        mean = _divide(ops.sum(ops.where(defined, values, 0.0)), ops.sum(ops.cast(defined, "float64")))
        return {
            **{f"{self.name}/{name}": values[c] for c, name in enumerate(self._names)},
            f"mean_{self.name}": mean,
        }

    def per_class(self) -> Any:
        """Accuracy of each class so far.

        Returns:
            float64 NumPy array [num_classes]; nan for a class without rows.

        Raises:
            UserError: A row had a class number out of range, or a score that is NaN.
        """
        n_invalid = float(self.n_invalid)
        if n_invalid:
            raise UserError(
                f"PerClassAccuracy: {n_invalid:.0f} rows had a class number that is no whole number from 0 to "
                f"{self.num_classes - 1}, or scores that hold NaN; correct the labels, or look for a diverged training."
            )
        return ops.convert_to_numpy(self._accuracies())

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor, for `from_config`."""
        return {**super().get_config(), "num_classes": self.num_classes, "classes": self.classes}

    def _accuracies(self) -> Any:
        values = _divide(self.n_correct.value, self.n_rows.value)
        return ops.where(self.n_invalid.value > 0, float("nan"), values)


def _divide(numerator: Any, denominator: Any) -> Any:
    """Quotient, nan where the denominator is 0."""
    return ops.where(denominator > 0, numerator / ops.where(denominator > 0, denominator, 1.0), float("nan"))
