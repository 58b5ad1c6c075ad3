"""Prototypes of new classes from a few clips each, as `birdnet-fs enroll` computes them, with NumPy only.

A prototype is the mean of the clips' embeddings (Snell et al. 2017, https://arxiv.org/abs/1703.05175); the logit of a
class decreases with the distance to it. The scale of the logits (Platt 1999) and the logit of "unknown" are calibrated
on the clips themselves, each compared with the prototype of its class without that clip (leave-one-out). Prototypes are
stored in one small .npz without pickled objects; enroll_tflite.py reads the clips.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reading import InputError, read_arrays

FORMAT = 1
UNKNOWN = "unknown"
SCALES = (1e-2, 1e4)  # search range of the scale, relative to the spread of the similarities
HALVINGS = 60  # bisection steps on the logarithm of that range, to the precision of float64
KEPT = 0.95  # share of the clips ranked above "unknown" when there is no background
SMALLEST = 1e-6  # smallest length of an embedding with a direction
PAIRS = 1 << 12  # pairs per step of a learned distance, to limit memory


@dataclass(frozen=True)
class EmbeddingDistance:
    """Distance by which a network compares embeddings."""

    distance: str  # "euclidean", "cosine" or "learnt"
    center: np.ndarray | None  # [width], subtracted from all embeddings; None: the mean of the clips
    dense: list[tuple[np.ndarray, np.ndarray]]  # kernel and bias of each layer of a learned distance


@dataclass(frozen=True)
class Support:
    """Labeled clips that prototypes are computed from."""

    labels: list[str]
    files: list[str]  # "" for clips stored with the network
    embeddings: np.ndarray  # float32 [n_clips, width]

    def without(self, classes: list[str]) -> Support:
        """The clips without those of some classes."""
        rows = [i for i, label in enumerate(self.labels) if label not in classes]
        return Support([self.labels[i] for i in rows], [self.files[i] for i in rows], self.embeddings[rows])

    def plus(self, other: Support) -> Support:
        """The clips followed by others."""
        embeddings = np.concatenate([self.embeddings, other.embeddings])
        return Support(self.labels + other.labels, self.files + other.files, embeddings)


@dataclass(frozen=True)
class Prototypes:
    """Prototypes and calibration that turn embeddings into logits."""

    encoder: str  # id of the encoder, as in the sidecar of the network
    support: Support
    classes: list[str]  # without "unknown"
    points: np.ndarray  # float32 [n_classes, width], minus the center
    center: np.ndarray  # float32 [width]
    scale: float
    unknown: float | None  # logit of "unknown"; None when there is no such class

    @property
    def names(self) -> list[str]:
        """The classes in the order of the logits."""
        return self.classes + ([UNKNOWN] if self.unknown is not None else [])

    def logits(self, embeddings: np.ndarray, comparison: EmbeddingDistance) -> np.ndarray:
        """Logits [n, n_names] of embeddings [n, width]."""
        found = self.scale * similarity(center_embeddings(embeddings, self.center, comparison), self.points, comparison)
        if self.unknown is None:
            return found
        return np.concatenate([found, np.full((len(found), 1), self.unknown)], axis=1)


def center_embeddings(embeddings: np.ndarray, center: np.ndarray, comparison: EmbeddingDistance) -> np.ndarray:
    """Subtract the center and, for cosines, scale to length 1.

    Args:
        embeddings: [n, width].
        center: [width].
        comparison: Distance by which embeddings are compared.

    Returns:
        [n, width].
    """
    points = embeddings - center
    if comparison.distance == "cosine":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), SMALLEST)
    return points


def similarity(points: np.ndarray, prototypes: np.ndarray, comparison: EmbeddingDistance) -> np.ndarray:
    """Logits at scale 1: cosines, or negative distances.

    Args:
        points: Centered embeddings [n, width].
        prototypes: [n_classes, width].
        comparison: Distance by which embeddings are compared.

    Returns:
        float64 [n, n_classes].
    """
    x, p = points.astype(np.float64), prototypes.astype(np.float64)
    if comparison.distance == "cosine":
        return x @ (p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), SMALLEST)).T
    if comparison.distance == "euclidean":
        return 2 * x @ p.T - np.square(p).sum(axis=1) - np.square(x).sum(axis=1, keepdims=True)
    kernel, bias = comparison.dense[0]  # its input is a point and a prototype, concatenated
    of_point, of_prototype = np.split(kernel.astype(np.float64), 2)
    first, second = x @ of_point, p @ of_prototype + bias
    found = np.empty((len(x), len(p)))
    step = max(1, PAIRS // len(p))
    for start in range(0, len(x), step):
        y = first[start : start + step, None] + second
        for kernel, bias in comparison.dense[1:]:
            y = np.maximum(y, 0) @ kernel.astype(np.float64) + bias
        found[start : start + step] = -y[..., 0]
    return found


def fit_prototypes(
    support: Support, background: np.ndarray, comparison: EmbeddingDistance, encoder: str, *, unknown: bool
) -> Prototypes:
    """Compute prototypes, scale and the logit of "unknown".

    With a background, the logit of "unknown" is the threshold that best separates the clips' own logits from the
    highest logits of the background; without one, KEPT of the clips' own logits lie above it. Where every class has one
    clip only, a second clip is assumed half-way to the nearest other class, and without a background the logit of
    "unknown" is the median similarity to that class.

    Args:
        support: The clips.
        background: Embeddings of windows with none of the classes, [n, width]; n may be 0.
        comparison: Distance by which embeddings are compared.
        encoder: Id of the encoder.
        unknown: Whether to add the class "unknown".

    Returns:
        The prototypes.

    Raises:
        InputError: "unknown" cannot be calibrated with one clip of one class and no background.
    """
    if unknown and len(support.labels) == 1 and not len(background):
        raise InputError('"unknown" cannot be calibrated on one clip of one class; give more clips, or --background.')
    classes = sorted(set(support.labels))
    truth = np.array([classes.index(label) for label in support.labels])
    center = support.embeddings.mean(axis=0) if comparison.center is None else comparison.center
    points = center_embeddings(support.embeddings, center, comparison)
    counts = np.bincount(truth, minlength=len(classes))
    sums = np.zeros((len(classes), points.shape[1]))
    np.add.at(sums, truth, points)
    prototypes = (sums / counts[:, None]).astype(np.float32)
    similarities = similarity(points, prototypes, comparison)
    several = counts[truth] > 1
    for i in np.flatnonzero(several):  # a clip's own class without it
        mean = ((sums[truth[i]] - points[i]) / (counts[truth[i]] - 1)).astype(np.float32)
        similarities[i, truth[i]] = similarity(points[i : i + 1], mean[None], comparison)[0, 0]
    guessed = len(classes) > 1 and not several.any()
    if guessed:
        others = np.where(np.eye(len(classes), dtype=bool)[truth], -np.inf, similarities).max(axis=1)
        similarities[np.arange(len(truth)), truth] = (similarities[np.arange(len(truth)), truth] + others) / 2
    rows = np.flatnonzero(several) if several.any() else np.arange(len(truth))
    similarities, truth = similarities[rows], truth[rows]
    own, cut = similarities[np.arange(len(truth)), truth], None
    if unknown and len(background):
        other = similarity(center_embeddings(background, center, comparison), prototypes, comparison).max(axis=1)
        cut = best_threshold(own, other)
    elif unknown:
        cut = float(np.median(others) if guessed else np.quantile(own, 1 - KEPT))
    if cut is not None:
        similarities = np.concatenate([similarities, np.full((len(similarities), 1), cut)], axis=1)
    scale = best_scale(similarities, truth)
    logit = None if cut is None else scale * cut
    return Prototypes(encoder, support, classes, prototypes, center.astype(np.float32), scale, logit)


def best_scale(similarities: np.ndarray, truth: np.ndarray) -> float:
    """The scale with the lowest cross-entropy between the softmax of the logits and smoothed targets (Platt 1999).

    The target is (n + 1) / (n + 2) for the class of a clip and an equal share of the rest for the others; the scale is
    where the slope of the cross-entropy is 0.

    Args:
        similarities: Logits at scale 1, [n, n_classes].
        truth: Class number of each clip, int [n].

    Returns:
        The scale, above 0.
    """
    n, m = similarities.shape
    targets = np.full((n, m), 1 / (n + 2) / (m - 1))
    targets[np.arange(n), truth] = (n + 1) / (n + 2)
    unit = float(np.abs(similarities - similarities.mean(axis=1, keepdims=True)).mean())
    if unit == 0:  # all similarities are equal
        return 1.0
    low, high = (limit / unit for limit in SCALES)
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        odds = np.exp(middle * (similarities - similarities.max(axis=1, keepdims=True)))
        slope = ((odds / odds.sum(axis=1, keepdims=True) - targets) * similarities).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.sqrt(low * high))


def best_threshold(own: np.ndarray, other: np.ndarray) -> float:
    """The threshold midway between values with the largest share of `own` [n] above plus share of `other` [m] below."""
    cuts = np.unique(np.concatenate([own, other]))
    cuts = np.concatenate([[cuts[0] - 1], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1]])
    rates = (own[None] > cuts[:, None]).mean(axis=1) + (other[None] < cuts[:, None]).mean(axis=1)
    best = np.flatnonzero(rates == rates.max())
    return float(cuts[best[len(best) // 2]])


def save_prototypes(path: Path, known: Prototypes) -> None:
    """Write prototypes to an .npz; an existing file stays as it was if writing is interrupted."""
    values: dict[str, Any] = {
        "format": np.int64(FORMAT),
        "encoder": np.array(known.encoder),
        "classes": np.array(known.classes),
        "prototypes": known.points,
        "centre": known.center,
        "scale": np.float64(known.scale),
        "unknown": np.float64(np.nan if known.unknown is None else known.unknown),
        "labels": np.array(known.support.labels),
        "files": np.array(known.support.files),
        "embeddings": known.support.embeddings,
    }
    handle, part = tempfile.mkstemp(prefix=".part-", suffix=".npz", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, **values)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(part, 0o644)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def open_prototypes(path: Path, encoder: str, width: int) -> Prototypes:
    """Read a file of `save_prototypes`.

    Args:
        path: The .npz.
        encoder: Id of the network's encoder, which must match.
        width: Width of the network's embeddings, which must match.

    Returns:
        The prototypes.

    Raises:
        InputError: The file is missing or damaged, or was made with another network.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; write it with `enroll_tflite.py enroll`.")
    values = read_arrays(path)
    try:
        number = int(values["format"])
        support = Support(values["labels"].tolist(), values["files"].tolist(), values["embeddings"])
        unknown = float(values["unknown"])
        known = Prototypes(
            str(values["encoder"]),
            support,
            values["classes"].tolist(),
            values["prototypes"],
            values["centre"],
            float(values["scale"]),
            None if np.isnan(unknown) else unknown,
        )
        shapes = [known.points.shape, support.embeddings.shape, known.center[None].shape]
        wanted = [len(known.classes), len(support.labels), 1]
        fits = [shape[0] for shape in shapes] == wanted and len({shape[1:] for shape in shapes}) == 1
    except (OSError, ValueError, KeyError, EOFError, TypeError) as error:
        raise InputError(
            f"{path} is not a file of prototypes ({type(error).__name__}); enroll the classes again."
        ) from None
    if number != FORMAT or not fits:
        raise InputError(f"{path} has a format this script does not support; enroll the classes again.")
    if known.points.shape[1] != width:
        raise InputError(
            f"{path} holds embeddings of width {known.points.shape[1]} and the network gives {width}; "
            "enroll the classes again with this network."
        )
    if known.encoder != encoder:
        raise InputError(f"{path} was made with another network; enroll the classes again with this one.")
    return known
