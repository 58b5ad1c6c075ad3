"""From embeddings of a few clips to the numbers of a prototype head: prototypes, scale, the logit of "unknown".

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175 (a
class is the mean of its clips' embeddings); Wang et al. 2019, "SimpleShot", https://arxiv.org/abs/1911.04623 (for a
network that was trained as a classifier: a center is taken off and every embedding brought to length 1 first); Platt
1999, "Probabilistic Outputs for Support Vector Machines" (how sure a few clips that are all told apart allow to be).

What is calibrated looks at each clip with its own part taken out of the prototype, so that a clip never tells how
well it is known. `export/prototypes.py` does the same on a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.activations import to_probabilities

SCALES = (1e-2, 1e4)  # of the logits, between which it is looked for, in units of what classes differ by
HALVINGS = 60  # of the logarithm of that range: float64 has no more digits
ACCEPTED_SHARE = 0.95  # share of the support's own clips that "unknown" lets through when there is no background to hear
SMALLEST = 1e-6  # length below which an embedding has no direction
PAIRS = 1 << 15  # that the learned distance measures at a time

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Distance = Literal["euclidean", "cosine", "learned"]


@dataclass(frozen=True)
class EmbeddingDistance:
    """How a network compares embeddings."""

    distance: Distance
    center: Floats | None  # [width], taken off all embeddings; None = the mean of the support
    dense: tuple[tuple[Floats, Floats], ...] = ()  # of the learned distance: kernel and bias of each layer


@dataclass(frozen=True)
class CalibratedHead:
    """The numbers of a prototype head."""

    distance: Distance
    scale: float
    center: Floats  # [width]
    prototypes: Floats  # [n_classes, width], classes sorted
    unknown: float | None  # logit of "unknown"; None when there is no such class


def calibrate(labels: Sequence[str], embeddings: Floats, background: Floats, base: EmbeddingDistance, *, unknown: bool) -> CalibratedHead:
    """Prototypes, scale and the logit of "unknown" from embeddings alone.

    Args:
        labels: The class of each clip.
        embeddings: [n_clips, width].
        background: Embeddings [n, width] of audio with none of the classes; may be of length 0.
        base: How embeddings are compared.
        unknown: Whether there is such a class.

    The scale is the one under which the head's probabilities fit the clips best, "unknown" among them (`_best_scale`).

    With a background the logit of "unknown" is the one that tells best between the support's own logits and the
    background's highest (largest sum of both rates); else it lets through KEPT of the support's own logits.

    Where every class has one clip, nothing is known of how near another would be: for the scale it is taken to lie
    half-way to the nearest other class, and without a background "unknown" is what is no nearer than that class.

    Raises:
        UserError: One clip is all there is: nothing says how near another is.
    """
    if unknown and len(labels) == 1 and not len(background):
        raise UserError(
            "One clip of one class says nothing of how near another clip must be; give more clips, or --background."
        )
    classes = sorted(set(labels))
    truth = np.array([classes.index(label) for label in labels])
    center = embeddings.mean(0) if base.center is None else base.center
    points = _points(embeddings, center, base)
    counts = np.bincount(truth, minlength=len(classes))
    sums = np.zeros((len(classes), points.shape[1]))
    np.add.at(sums, truth, points)
    prototypes = (sums / counts[:, None]).astype(np.float32)
    near = _similarities(points, prototypes, base)
    several = counts[truth] > 1
    for i in np.flatnonzero(several):  # a clip's own class without it
        mean = ((sums[truth[i]] - points[i]) / (counts[truth[i]] - 1)).astype(np.float32)
        near[i, truth[i]] = _similarities(points[i : i + 1], mean[None], base)[0, 0]
    guessed = len(classes) > 1 and not several.any()
    if guessed:
        others = np.where(np.eye(len(classes), dtype=bool)[truth], -np.inf, near).max(1)
        near[np.arange(len(truth)), truth] = (near[np.arange(len(truth)), truth] + others) / 2
    rows = np.flatnonzero(several) if several.any() else np.arange(len(truth))
    near, truth = near[rows], truth[rows]
    own, cut = near[np.arange(len(truth)), truth], None
    if unknown and len(background):
        cut = _best_threshold(own, _similarities(_points(background, center, base), prototypes, base).max(1))
    elif unknown:
        cut = float(np.median(others)) if guessed else float(np.quantile(own, 1 - ACCEPTED_SHARE))
    if cut is not None:
        near = np.concatenate([near, np.full((len(near), 1), cut)], axis=1)
    scale = _best_scale(near, truth)
    logit = None if cut is None else scale * cut
    # stored so that the head, which takes the center off, finds the points again
    return CalibratedHead(base.distance, scale, center, prototypes + center, logit)


def _points(embeddings: Floats, center: Floats, base: EmbeddingDistance) -> Floats:
    """Embeddings where they are averaged: less the center, and for cosines of length 1."""
    points = embeddings - center
    if base.distance == "cosine":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), SMALLEST)
    return points


def _similarities(points: Floats, prototypes: Floats, base: EmbeddingDistance) -> Doubles:
    """How near each point is to each prototype, [n, n_classes]: the head's logits at scale 1."""
    x, p = points.astype(np.float64), prototypes.astype(np.float64)
    if base.distance == "learned":
        return -_learned_distances(x, p, base)
    if base.distance == "cosine":
        return x @ (p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), SMALLEST)).T
    return 2 * x @ p.T - np.square(p).sum(1) - np.square(x).sum(1, keepdims=True)


def _learned_distances(x: Doubles, p: Doubles, base: EmbeddingDistance) -> Doubles:
    """What `heads.prototypes.distance_network` says of every pair: [n, n_classes].

    The first layer reads a pair side by side; its kernel's two halves are applied once to each side.
    """
    (kernel, bias), *rest = base.dense
    of_query, of_prototype = np.split(kernel.astype(np.float64), 2)
    queries, known = x @ of_query, p @ of_prototype + bias
    found = np.empty((len(x), len(p)))
    step = max(1, PAIRS // len(p))
    for start in range(0, len(x), step):
        y = queries[start : start + step, None] + known
        for kernel, bias in rest:
            y = np.maximum(y, 0) @ kernel.astype(np.float64) + bias
        found[start : start + step] = y[..., 0]
    return found


def _best_scale(similarities: Doubles, truth: NDArray[np.int64]) -> float:
    """The scale under which the softmax of the logits fits the clips best.

    What it has to fit is not that each clip is surely of its class, for which clips that are all told apart would ask
    for a scale without end, but what n clips of n right allow to say (Platt 1999): (n + 1) / (n + 2) for its class, the
    rest for the others. Cross-entropy has one minimum along the scale, where its slope passes through 0.
    """
    n, m = similarities.shape
    targets = np.full((n, m), 1 / (n + 2) / (m - 1))
    targets[np.arange(n), truth] = (n + 1) / (n + 2)
    unit = float(np.abs(similarities - similarities.mean(1, keepdims=True)).mean())
    if unit == 0:  # all alike
        return 1.0
    low, high = (limit / unit for limit in SCALES)
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        slope = ((to_probabilities(middle * similarities, "softmax") - targets) * similarities).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.sqrt(low * high))


def _best_threshold(own: Doubles, other: Doubles) -> float:
    """Half-way between the two neighbors where (share of `own` above) + (share of `other` below) is largest."""
    cuts = np.unique(np.concatenate([own, other]))
    cuts = np.concatenate([[cuts[0] - 1.0], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1.0]])
    above, below = len(own) - np.searchsorted(np.sort(own), cuts, "right"), np.searchsorted(np.sort(other), cuts)
    rates = above / len(own) + below / len(other)
    best = np.flatnonzero(rates == rates.max())
    return float(cuts[best[len(best) // 2]])
