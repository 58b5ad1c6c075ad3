"""Numbers of a prototype head from the embeddings of a few clips: prototypes, logit scale, logit of "unknown".

Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175 (the
prototype of a class is the mean embedding of its clips); Wang et al. 2019, "SimpleShot",
https://arxiv.org/abs/1911.04623 (for a network that was trained as a classifier, embeddings are centered and scaled to
length 1 first). The scale is that of inference/logit_scale.py.

For the calibration, each clip is compared with a prototype without its own embedding, so that the similarity of a clip
to itself does not count. `export/prototypes.py` does the same on a device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.logit_scale import best_scale

ACCEPTED_SHARE = 0.95  # share of the support clips above the logit of "unknown" when there is no background
MIN_LENGTH = 1e-6  # length below which an embedding has no direction
MAX_PAIRS = 1 << 15  # of one evaluation of the learned distance

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Distance = Literal["euclidean", "cosine", "learned"]


@dataclass(frozen=True)
class EmbeddingDistance:
    """Distance by which a network compares embeddings.

    Attributes:
        distance: "euclidean", "cosine" or "learned".
        center: float32 [width], subtracted from all embeddings; None: the mean of the support.
        dense: Kernel and bias of each layer of the learned distance. Default: ().
    """

    distance: Distance
    center: Floats | None
    dense: tuple[tuple[Floats, Floats], ...] = ()


@dataclass(frozen=True)
class CalibratedHead:
    """The numbers of a prototype head.

    Attributes:
        distance: "euclidean", "cosine" or "learned".
        scale: Factor of the logits.
        center: float32 [width].
        prototypes: float32 [n_classes, width], classes sorted by name.
        unknown: Logit of "unknown"; None when there is no such class.
    """

    distance: Distance
    scale: float
    center: Floats
    prototypes: Floats
    unknown: float | None


def calibrate(
    labels: Sequence[str], embeddings: Floats, background: Floats, base: EmbeddingDistance, *, unknown: bool
) -> CalibratedHead:
    """Compute prototypes, logit scale and the logit of "unknown" from embeddings.

    The scale is the one at which the probabilities of the head fit the clips best, "unknown" among the classes
    (`logit_scale.best_scale`).

    With a background, the logit of "unknown" is the threshold that best separates the logits of the support clips for
    their own class from the largest logits of the background (largest sum of both rates). Without one, ACCEPTED_SHARE
    of the support clips have a larger logit for their own class.

    When every class has one clip, the similarity of a further clip of the class is unknown. For the scale it is assumed
    to be half-way to the most similar other class, and without a background the threshold of "unknown" is the
    similarity of that class.

    Args:
        labels: The class of each clip.
        embeddings: float32 [n_clips, width].
        background: float32 [n_windows, width], embeddings of audio without any of the classes; n_windows may be 0.
        base: Distance by which embeddings are compared.
        unknown: Whether the head has a class "unknown".

    Returns:
        The head.

    Raises:
        UserError: There is one clip only, and no background, to calibrate "unknown" on.
    """
    if unknown and len(labels) == 1 and not len(background):
        raise UserError('"unknown" cannot be calibrated on one clip of one class; give more clips, or --background.')
    classes = sorted(set(labels))
    truth = np.array([classes.index(label) for label in labels])
    center = embeddings.mean(0) if base.center is None else base.center
    points = _points(embeddings, center, base)
    counts = np.bincount(truth, minlength=len(classes))
    sums = np.zeros((len(classes), points.shape[1]))
    np.add.at(sums, truth, points)
    prototypes = (sums / counts[:, None]).astype(np.float32)
    similarities = _similarities(points, prototypes, base)
    several = counts[truth] > 1
    for i in np.flatnonzero(several):  # prototype of its own class without this clip
        mean = ((sums[truth[i]] - points[i]) / (counts[truth[i]] - 1)).astype(np.float32)
        similarities[i, truth[i]] = _similarities(points[i : i + 1], mean[None], base)[0, 0]
    single_clips = len(classes) > 1 and not several.any()
    if single_clips:
        others = np.where(np.eye(len(classes), dtype=bool)[truth], -np.inf, similarities).max(1)
        own = similarities[np.arange(len(truth)), truth]
        similarities[np.arange(len(truth)), truth] = (own + others) / 2
    rows = np.flatnonzero(several) if several.any() else np.arange(len(truth))
    similarities, truth = similarities[rows], truth[rows]
    own, threshold = similarities[np.arange(len(truth)), truth], None
    if unknown and len(background):
        threshold = _best_threshold(own, _similarities(_points(background, center, base), prototypes, base).max(1))
    elif unknown:
        threshold = float(np.median(others)) if single_clips else float(np.quantile(own, 1 - ACCEPTED_SHARE))
    if threshold is not None:
        similarities = np.concatenate([similarities, np.full((len(similarities), 1), threshold)], axis=1)
    scale = best_scale(similarities, np.eye(similarities.shape[1])[truth])
    logit = None if threshold is None else scale * threshold
    # the head subtracts the center from its prototypes
    return CalibratedHead(base.distance, scale, center, prototypes + center, logit)


def _points(embeddings: Floats, center: Floats, base: EmbeddingDistance) -> Floats:
    """Embeddings [n, width] minus the center, and of length 1 for cosines."""
    points = embeddings - center
    if base.distance == "cosine":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), MIN_LENGTH)
    return points


def _similarities(points: Floats, prototypes: Floats, base: EmbeddingDistance) -> Doubles:
    """Similarity of each point to each prototype, [n, n_classes]: the logits of the head at scale 1."""
    x, p = points.astype(np.float64), prototypes.astype(np.float64)
    if base.distance == "learned":
        return -_learned_distances(x, p, base)
    if base.distance == "cosine":
        return x @ (p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), MIN_LENGTH)).T
    return 2 * x @ p.T - np.square(p).sum(1) - np.square(x).sum(1, keepdims=True)


def _learned_distances(x: Doubles, p: Doubles, base: EmbeddingDistance) -> Doubles:
    """Output of `heads.prototypes.distance_network` for every pair, [n, n_classes].

    The input of the first layer is the concatenated pair, so each half of its kernel is applied once to each side.
    """
    (kernel, bias), *rest = base.dense
    of_query, of_prototype = np.split(kernel.astype(np.float64), 2)
    queries, references = x @ of_query, p @ of_prototype + bias
    found = np.empty((len(x), len(p)))
    step = max(1, MAX_PAIRS // len(p))
    for start in range(0, len(x), step):
        y = queries[start : start + step, None] + references
        for kernel, bias in rest:
            y = np.maximum(y, 0) @ kernel.astype(np.float64) + bias
        found[start : start + step] = y[..., 0]
    return found


def _best_threshold(own: Doubles, other: Doubles) -> float:
    """Midpoint of two neighbors at which (share of `own` above) + (share of `other` below) is largest."""
    cuts = np.unique(np.concatenate([own, other]))
    cuts = np.concatenate([[cuts[0] - 1.0], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1.0]])
    above, below = len(own) - np.searchsorted(np.sort(own), cuts, "right"), np.searchsorted(np.sort(other), cuts)
    rates = above / len(own) + below / len(other)
    best = np.flatnonzero(rates == rates.max())
    return float(cuts[best[len(best) // 2]])
