"""Heads "cosine" and "probe": scaled cosines with one direction of each class, or with several.

Directions start at the mean of their class; those of a probe (models/heads/on_tokens.ProbeLogits) at this mean plus a
part of one of the rows of the class. The scale bounds the logits while they are fitted, which regularizes the head:
with a small one the directions stay those of class means. It is chosen on folds of the training clips. There is no bias
in the fit, for the reason in logistic.py.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from birdnet_fs import schema
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.models.heads.on_tokens import SHARPNESS
from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.logistic import CrossEntropy, Doubles, minimized
from birdnet_fs.training.encoder_heads.prototypes import SMALLEST_SQUARE, unit_length
from birdnet_fs.training.encoder_heads.rows import Rows, token_rows, training_rows
from birdnet_fs.training.encoder_heads.solution import Solution
from birdnet_fs.training.encoder_heads.transform import Transform

GRADIENT = 1e-4  # largest slope at the end, of losses of order 1 and directions of length 1
SPREAD = 0.5  # of the prototypes of a class around its mean, at the start


def fit_directions(x: NDArray, loss: CrossEntropy, scale: float, start: NDArray) -> Doubles:
    """Minimize the cross-entropy of scale x similarity.

    Args:
        x: Embeddings [n, width], or tokens [n, n_tokens, width].
        loss: Loss of the rows of `x`.
        scale: Factor of the similarities, above 0.
        start: Directions to start from [width, n_classes, n_prototypes].

    Returns:
        Directions [width, n_classes, n_prototypes] of length 1; zeros for a class without a positive.
    """
    points, (width, _, n_prototypes), found = unit_length(x), start.shape, np.zeros(start.shape)
    if not loss.present.any():
        return found

    def loss_and_slope(flat: Doubles) -> tuple[float, Doubles]:
        kernel = flat.reshape(width, -1)
        length = np.sqrt(np.square(kernel).sum(0) + SMALLEST_SQUARE)
        directions = kernel / length
        cosines, places = largest(points @ directions)
        similarity, parts = similarities(cosines, n_prototypes)
        value, residual = loss(scale * similarity)
        of_cosines = (scale * residual[:, :, None] * parts).reshape(cosines.shape)
        of_directions = _products(points, of_cosines, places)
        return value, ((of_directions - directions * (directions * of_directions).sum(0)) / length).ravel()

    first = unit_length(start[:, loss.present].reshape(width, -1).T).T
    best = minimized(loss_and_slope, first.ravel(), GRADIENT).reshape(width, -1)
    found[:, loss.present] = unit_length(best.T).T.reshape(width, -1, n_prototypes)
    return found


def largest(cosines: NDArray) -> tuple[NDArray, NDArray | None]:
    """The largest cosine of each prototype over the tokens, and its token.

    Args:
        cosines: [n, n_directions], or of tokens [n, n_tokens, n_directions].

    Returns:
        Cosines [n, n_directions], and the token of each, or None without tokens.
    """
    if cosines.ndim == 2:
        return cosines, None
    places = cosines.argmax(1)
    return np.take_along_axis(cosines, places[:, None], axis=1)[:, 0], places


def _products(points: NDArray, weights: NDArray, places: NDArray | None) -> NDArray:
    """Sum over the rows of weight x row, or x the chosen token of the row, for each direction [width, n_directions]."""
    if places is None:
        return points.T @ weights
    n, n_tokens, width = points.shape
    rows = (np.arange(n)[:, None] * n_tokens + places).ravel()
    columns = np.tile(np.arange(weights.shape[1]), n)
    chosen = csr_array((weights.ravel(), (columns, rows)), shape=(weights.shape[1], n * n_tokens))
    return (chosen @ points.reshape(-1, width)).T


def similarities(cosines: NDArray, n_prototypes: int) -> tuple[NDArray, NDArray]:
    """The smooth maximum of the cosines of a class, and its slope.

    Args:
        cosines: [n, n_classes * n_prototypes].
        n_prototypes: Prototypes of a class, 1 or more.

    Returns:
        Similarity of each class [n, n_classes], and what each cosine adds to it [n, n_classes, n_prototypes], which
        sums to 1.
    """
    of_classes = cosines.reshape(len(cosines), -1, n_prototypes)
    if n_prototypes == 1:
        return of_classes[:, :, 0], np.ones_like(of_classes)
    raised = np.exp(SHARPNESS * (of_classes - 1))
    mean = raised.mean(2)
    return np.log(mean) / SHARPNESS + 1, raised / mean[:, :, None] / n_prototypes


def solve_cosine(
    data: HeadData, transform: Transform, candidates: Sequence[schema.Model], experiment: schema.Experiment
) -> list[Solution]:
    """Fit the head "cosine" or "probe" with each `logit_scale`, each fit starting from the one before.

    Args:
        data: The training data.
        transform: The transform of all candidates; of tokens for a probe on tokens.
        candidates: Settings that differ in `logit_scale`.
        experiment: Uses `seed`, `data.multi_label` and `training.loss` (label smoothing and class weights).

    Returns:
        One solution for each candidate.
    """
    is_probe = candidates[0].head == "probe"
    if transform.layer == "tokens":
        rows = token_rows(data, _with_mean(transform(data.features)), experiment)
    else:
        rows = training_rows(data, transform(data.embeddings), experiment)
    n = candidates[0].encoder_head.n_prototypes if is_probe else 1
    directions = _first_directions(
        rows, n, SPREAD if is_probe else 0.0, generator(experiment.seed, Stream.HEAD_DIRECTIONS)
    )
    solutions = []
    for model in candidates:
        scale = model.logit_scale
        directions = np.where(rows.loss.present[:, None], fit_directions(rows.x, rows.loss, scale, directions), 0)
        kernel = rows.to_width(directions).reshape(-1, directions.shape[1] * n).astype(np.float32)
        bias = np.where(rows.loss.present, 0, -2 * scale).astype(np.float32)

        def score(given: HeadData, kernel: NDArray = kernel, bias: NDArray = bias, scale: float = scale) -> NDArray:
            on_tokens = transform.layer == "tokens"
            x = _with_mean(transform(given.features)) if on_tokens else transform(given.embeddings)
            return scale * similarities(largest(unit_length(x) @ kernel)[0], n)[0] + bias

        weights = {
            **transform.weights,
            "logits/prototypes" if is_probe else "logits/kernel": kernel,
            "logits/bias": bias,
        }
        solutions.append(Solution(model, weights, score))
    return solutions


def _with_mean(tokens: NDArray) -> NDArray:
    """Tokens and their mean as one more token [n, n_tokens + 1, width]."""
    return np.concatenate([tokens, tokens.mean(1, keepdims=True)], axis=1)


def _first_directions(rows: Rows, n: int, spread: float, rng: np.random.Generator) -> Doubles:
    """The mean of each class plus a part of n of its rows, [width, n_classes, n]."""
    points = unit_length(rows.x if rows.x.ndim == 2 else rows.x[:, -1]).astype(np.float64)
    positive = np.clip(rows.loss.targets, 0, None) * rows.loss.weights[:, None]
    found = []
    for column in positive.T:
        own = np.flatnonzero(column) if column.any() else np.arange(len(points))
        picked = rows.x[rng.choice(own, n, replace=len(own) < n)]
        if picked.ndim == 3:
            picked = picked[np.arange(n), rng.integers(0, picked.shape[1], n)]
        found.append((unit_length(column @ points) + spread * unit_length(picked)).T)
    return np.stack(found, axis=1)
