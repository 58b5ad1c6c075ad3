"""A fitted head: its settings, its weights by Keras variable path, and its logits in NumPy."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.training.encoder_heads.data import HeadData

Doubles = NDArray[np.float64]
Score = Callable[[HeadData], np.ndarray]  # -> logits [n_windows, n_classes] of its windows
WITH_SCALE = ("cosine", "prototypes", "probe")  # heads whose last layer multiplies cosines by model.logit_scale


@dataclass(frozen=True, eq=False)
class Solution:
    """A head that was fitted.

    Attributes:
        model: The settings, with all that was chosen filled in.
        weights: float32 arrays by variable path of `on_embedding.build_encoder_head`.
        score: Clips -> logits [n_windows, n_classes] of their windows, computed in NumPy.
        history: Rows for history.csv.
    """

    model: schema.Model
    weights: dict[str, np.ndarray]
    score: Score
    history: list[dict[str, float]] = field(default_factory=list)

    def rescaled(self, scale: float, shift: Doubles) -> "Solution":
        """The head whose logits are scale x logits + shift.

        Args:
            scale: Factor, above 0.
            shift: float64 [n_classes].

        Returns:
            The same head with other numbers in its last layer.
        """
        weights, model = dict(self.weights), self.model
        if model.head in WITH_SCALE:
            model = dataclasses.replace(model, logit_scale=float(model.logit_scale * scale))
        else:
            weights["logits/kernel"] = (weights["logits/kernel"] * scale).astype(np.float32)
        weights["logits/bias"] = (weights["logits/bias"] * scale + shift).astype(np.float32)
        before = self.score
        return Solution(model, weights, lambda x: before(x) * scale + shift, self.history)
