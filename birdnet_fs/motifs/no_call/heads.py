"""The heads that find calls on embeddings: gradient-boosted trees, logistic regression, and a small network.

Each is fitted along a path: rounds of boosting, strengths of a penalty, or epochs. Where to stop is decided on other
windows (fitting.py). Stored are the trees as LightGBM's text, and the layers of the other two as safetensors.
"""

import copy
import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_text
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.core.text import escaped
from birdnet_fs.motifs.boosting import N_ROUNDS, BoostedPath, Trees

Weights = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]  # of the layers, and their biases
Kind = Literal["gbm", "logistic", "mlp"]
C = np.logspace(-5, 1, 13)  # inverse strengths of the penalty, the strongest penalty first
N_EPOCHS, N_HIDDEN = 100, 64
MAX_BYTES = 100_000_000  # of a stored head


class Head(Protocol):
    """A fitted head."""

    @property
    def width(self) -> int:
        """Number of features that it reads."""
        ...

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        """Vectors float32 [n, width] -> probabilities of a call float64 [n]."""
        ...


class HeadPath(Protocol):
    """A head after each step of its path."""

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        """Vectors float32 [n, width] -> probabilities of a call float64 [n_steps, n]."""
        ...

    def head(self, n_steps: int) -> Head:
        """The head after so many steps, 1 or more."""
        ...


@dataclass(frozen=True, eq=False)
class Layers:
    """Standardization and dense layers, with ReLU between and a sigmoid at the end.

    Attributes:
        mean: float64 [width].
        scale: float64 [width], above 0.
        weights: float64 [n_in, n_out] of each layer; the last has one output.
        biases: float64 [n_out] of each layer.
    """

    mean: np.ndarray
    scale: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    @property
    def width(self) -> int:
        """Number of features that are read."""
        return len(self.mean)

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        """Vectors float32 [n, width] -> probabilities float64 [n]."""
        values = (x - self.mean) / self.scale
        for place, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = (np.maximum(values, 0) if place else values) @ weight + bias
        return np.asarray(1 / (1 + np.exp(-np.clip(values[:, 0], -500, 500))))


class _LayersPath:
    """Steps of a head that consists of layers."""

    def __init__(self, steps: list[Layers]) -> None:
        self.steps = steps

    def probabilities(self, x: np.ndarray) -> NDArray[np.float64]:
        return np.stack([step.probabilities(x) for step in self.steps])

    def head(self, n_steps: int) -> Layers:
        return self.steps[n_steps - 1]


def fit_path(kind: str, x: np.ndarray, y: np.ndarray, *, seed: int = 0) -> HeadPath:
    """Fit a head along its whole path.

    Args:
        kind: "gbm", "logistic" or "mlp".
        x: float32 [n, width].
        y: bool [n], with both values.
        seed: Seed of the network. Default: 0.

    Returns:
        The path.

    Raises:
        UserError: There is no such head, or LightGBM is not installed.
    """
    if kind not in get_args(Kind):
        raise UserError(f"A head must be one of {', '.join(get_args(Kind))}. Received: {kind!r}")
    if kind == "gbm":
        return BoostedPath(x, y, N_ROUNDS)
    mean, scale = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
    scale = np.where(scale > 1e-12, scale, 1.0)
    standard = (x - mean) / scale
    found = _logistic(standard, y) if kind == "logistic" else _network(standard, y, seed)
    return _LayersPath([Layers(mean, scale, *step) for step in found])


def _logistic(x: np.ndarray, y: np.ndarray) -> list[Weights]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=300, warm_start=True)
    steps = list[Weights]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest penalties, which are seldom chosen
        for strength in C:
            model.set_params(C=strength).fit(x, y)
            steps.append(((model.coef_.T.copy(),), (model.intercept_.copy(),)))
    return steps


def _network(x: np.ndarray, y: np.ndarray, seed: int) -> list[Weights]:
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(
        (N_HIDDEN,),
        alpha=1e-2,
        batch_size=min(64, len(x)),
        learning_rate_init=1e-3,
        random_state=integer_seed(seed, Stream.NO_CALL_NETWORK),
    )
    steps = list[Weights]()
    for _ in range(N_EPOCHS):
        model.partial_fit(x, y, classes=[False, True])
        steps.append((tuple(copy.deepcopy(model.coefs_)), tuple(copy.deepcopy(model.intercepts_))))
    return steps


def write_head(path: Path, head: Head) -> None:
    """Write a head to a file, atomically: LightGBM's text, or safetensors."""
    if isinstance(head, Trees):
        write_text(path, head.text)
    elif isinstance(head, Layers):
        from safetensors.numpy import save

        arrays = {"mean": head.mean, "scale": head.scale}
        for place, (weight, bias) in enumerate(zip(head.weights, head.biases, strict=True)):
            arrays |= {f"weight_{place}": weight, f"bias_{place}": bias}
        with atomic_path(path) as part:
            part.write_bytes(save({key: np.ascontiguousarray(value, np.float64) for key, value in arrays.items()}))


def read_head(path: Path, kind: Any) -> Head:
    """Read a head.

    Args:
        path: The file.
        kind: Kind of the head, "gbm", "logistic" or "mlp".

    Returns:
        The head.

    Raises:
        UserError: The file is missing, too large, or is no such head.
    """
    again = f"{escaped(path)} is not a stored {escaped(kind)} head; copy it again"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{again}. It has more than {MAX_BYTES:,} bytes.")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{escaped(path)} cannot be read ({error.strerror}); copy it again.") from None
    if kind == "gbm":
        if not data.startswith(b"tree\n"):
            raise UserError(f"{again}.")
        return Trees(data.decode("utf-8", "replace"))
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return _layers(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise UserError(f"{again} ({escaped(error)}).") from None


def _layers(arrays: Mapping[str, np.ndarray]) -> Layers:
    n_layers = (len(arrays) - 2) // 2
    weights = tuple(arrays[f"weight_{place}"] for place in range(n_layers))
    biases = tuple(arrays[f"bias_{place}"] for place in range(n_layers))
    mean, scale = arrays["mean"], arrays["scale"]
    widths = [len(mean), *(len(bias) for bias in biases)]
    shapes = list(itertools.pairwise(widths))
    finite = all(np.isfinite(array).all() for array in arrays.values())
    if not n_layers or [w.shape for w in weights] != shapes or widths[-1] != 1 or scale.shape != mean.shape:
        raise ValueError("its layers do not fit each other")
    if not finite or (scale <= 0).any():
        raise ValueError("it has values that are not finite")
    return Layers(mean, scale, weights, biases)
