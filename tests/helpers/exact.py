"""A network in float64, and how far one float32 rounding of every number moves its logits.

Every engine rounds in another order, and a deep network magnifies what it rounds: MobileNetV2 a hundred times more
than a ViT. So an error counts in units of what the network itself makes of one rounding, which float64 arithmetic
measures alike on every processor.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import torch

ROUNDING = 2.0**-24  # the largest relative error of a number stored in float32
DRAWS = 4  # of the signs of the roundings; the largest counts


@dataclass(frozen=True)
class Exact:
    """Logits of a network for a batch in float64."""

    logits: np.ndarray  # float64 [n, n_classes]
    rounding: float  # the most that any logit moves where every weight and feature moves by one rounding

    def roundings(self, logits: np.ndarray | torch.Tensor) -> float:
        """Largest error of `logits` [n, n_classes] in units of `rounding`."""
        return float(np.abs(np.asarray(logits, np.float64) - self.logits).max() / self.rounding)


def exact(model: keras.Model, rebuild: Callable[[], keras.Model], x: torch.Tensor) -> Exact:
    """The network in float64.

    Args:
        model: A float32 network with its weights.
        rebuild: Builds the same network anew; it is called under the float64 dtype policy.
        x: Features, float32 [n, n_frames, n_mels, n_channels].

    Returns:
        Logits and the effect of one rounding.
    """
    keras.config.set_dtype_policy("float64")
    try:
        twin = rebuild()
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(v.dtype == "float64" for layer in twin.layers[:-1] for v in layer.weights)  # logits stay float32
    weights = [np.float64(value) for value in model.get_weights()]
    given, draw = x.double(), np.random.default_rng(0)

    def logits(rounded: float) -> np.ndarray:
        twin.set_weights([v * (1 + rounded * draw.choice([-1.0, 1.0], v.shape)) for v in weights])
        signs = torch.from_numpy(draw.choice([-1.0, 1.0], given.shape))
        with torch.no_grad():
            return twin(given * (1 + rounded * signs), training=False).double().numpy()

    found = logits(0.0)
    return Exact(found, max(float(np.abs(logits(ROUNDING) - found).max()) for _ in range(DRAWS)))
