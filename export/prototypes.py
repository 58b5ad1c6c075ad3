"""Classes from a few clips each, as `birdnet-fs enroll` makes them: NumPy alone; enroll_tflite.py reads the clips.

A class is the mean of its clips' embeddings (Snell et al. 2017, https://arxiv.org/abs/1703.05175); its logit falls
with the distance to it. The scale of the logits (Platt 1999) and the logit of "unknown" are calibrated on the clips
themselves, each with its own part taken out of its class, so that a clip never tells how well it is known. What is
known lies in one small .npz without pickled objects.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from reading import Refused

FORMAT = 1
UNKNOWN = "unknown"
SCALES = (1e-2, 1e4)  # between which it is looked for, in units of what classes differ by
HALVINGS = 60  # of the logarithm of that range: float64 has no more digits
KEPT = 0.95  # share of the clips that "unknown" lets through when there is no background to hear
SMALLEST = 1e-6  # length below which an embedding has no direction
PAIRS = 1 << 12  # that a learned distance measures at a time


@dataclass(frozen=True)
class Way:
    """How a network compares embeddings."""

    distance: str  # "euclidean", "cosine" or "learnt"
    center: np.ndarray | None  # [width], taken off all embeddings; None = the mean of the clips
    dense: list[tuple[np.ndarray, np.ndarray]]  # of a learned distance: kernel and bias of each layer


@dataclass(frozen=True)
class Support:
    """The clips that were learned from."""

    labels: list[str]
    files: list[str]  # "" where the network brought the clip with it
    embeddings: np.ndarray  # float32 [n_clips, width]

    def without(self, classes: list[str]) -> Support:
        """The clips of the other classes."""
        rows = [i for i, label in enumerate(self.labels) if label not in classes]
        return Support([self.labels[i] for i in rows], [self.files[i] for i in rows], self.embeddings[rows])

    def plus(self, other: Support) -> Support:
        """These clips, then the others."""
        embeddings = np.concatenate([self.embeddings, other.embeddings])
        return Support(self.labels + other.labels, self.files + other.files, embeddings)


@dataclass(frozen=True)
class Prototypes:
    """Classes that a network's embeddings are told by."""

    encoder: str  # what made the embeddings, as the network's sidecar says
    support: Support
    classes: list[str]  # without "unknown"
    points: np.ndarray  # float32 [n_classes, width], the center taken off
    center: np.ndarray  # float32 [width]
    scale: float
    unknown: float | None  # logit of "unknown"; None when there is no such class

    @property
    def names(self) -> list[str]:
        """The classes in the order of the logits."""
        return self.classes + ([UNKNOWN] if self.unknown is not None else [])

    def logits(self, embeddings: np.ndarray, way: Way) -> np.ndarray:
        """Logits [n, n_names] of embeddings [n, width]."""
        found = self.scale * nearness(located(embeddings, self.center, way), self.points, way)
        if self.unknown is None:
            return found
        return np.concatenate([found, np.full((len(found), 1), self.unknown)], axis=1)


def located(embeddings: np.ndarray, center: np.ndarray, way: Way) -> np.ndarray:
    """Embeddings where they are averaged and compared: less the center, and for cosines of length 1."""
    points = embeddings - center
    if way.distance == "cosine":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), SMALLEST)
    return points


def nearness(points: np.ndarray, prototypes: np.ndarray, way: Way) -> np.ndarray:
    """The logits at scale 1, float64 [n, n_classes], of points [n, width] for prototypes [n_classes, width]."""
    x, p = points.astype(np.float64), prototypes.astype(np.float64)
    if way.distance == "cosine":
        return x @ (p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), SMALLEST)).T
    if way.distance == "euclidean":
        return 2 * x @ p.T - np.square(p).sum(axis=1) - np.square(x).sum(axis=1, keepdims=True)
    kernel, bias = way.dense[0]  # reads a point and a prototype side by side
    of_point, of_prototype = np.split(kernel.astype(np.float64), 2)
    first, second = x @ of_point, p @ of_prototype + bias
    found = np.empty((len(x), len(p)))
    step = max(1, PAIRS // len(p))
    for start in range(0, len(x), step):
        y = first[start : start + step, None] + second
        for kernel, bias in way.dense[1:]:
            y = np.maximum(y, 0) @ kernel.astype(np.float64) + bias
        found[start : start + step] = -y[..., 0]
    return found


def learn(support: Support, background: np.ndarray, way: Way, encoder: str, *, unknown: bool) -> Prototypes:
    """Prototypes, scale and the logit of "unknown".

    `background` [n, width] are embeddings of windows with none of the classes; may be of length 0. With them the logit
    of "unknown" is the one that tells best between the clips' own logits and the background's highest; else it lets
    through KEPT of the clips' own logits. Where every class has one clip, another is taken to lie half-way to the
    nearest other class, and without a background "unknown" is what is no nearer than that class.
    """
    if unknown and len(support.labels) == 1 and not len(background):
        raise Refused(
            "One clip of one class says nothing of how near another clip must be; give more clips, or --background."
        )
    classes = sorted(set(support.labels))
    truth = np.array([classes.index(label) for label in support.labels])
    center = support.embeddings.mean(axis=0) if way.center is None else way.center
    points = located(support.embeddings, center, way)
    counts = np.bincount(truth, minlength=len(classes))
    sums = np.zeros((len(classes), points.shape[1]))
    np.add.at(sums, truth, points)
    prototypes = (sums / counts[:, None]).astype(np.float32)
    similarities = nearness(points, prototypes, way)
    several = counts[truth] > 1
    for i in np.flatnonzero(several):  # a clip's own class without it
        mean = ((sums[truth[i]] - points[i]) / (counts[truth[i]] - 1)).astype(np.float32)
        similarities[i, truth[i]] = nearness(points[i : i + 1], mean[None], way)[0, 0]
    guessed = len(classes) > 1 and not several.any()
    if guessed:
        others = np.where(np.eye(len(classes), dtype=bool)[truth], -np.inf, similarities).max(axis=1)
        similarities[np.arange(len(truth)), truth] = (similarities[np.arange(len(truth)), truth] + others) / 2
    rows = np.flatnonzero(several) if several.any() else np.arange(len(truth))
    similarities, truth = similarities[rows], truth[rows]
    own, cut = similarities[np.arange(len(truth)), truth], None
    if unknown and len(background):
        other = nearness(located(background, center, way), prototypes, way).max(axis=1)
        cut = best_threshold(own, other)
    elif unknown:
        cut = float(np.median(others) if guessed else np.quantile(own, 1 - KEPT))
    if cut is not None:
        similarities = np.concatenate([similarities, np.full((len(similarities), 1), cut)], axis=1)
    scale = best_scale(similarities, truth)
    logit = None if cut is None else scale * cut
    return Prototypes(encoder, support, classes, prototypes, center.astype(np.float32), scale, logit)


def best_scale(similarities: np.ndarray, truth: np.ndarray) -> float:
    """The scale under which the softmax of the logits fits best what n clips allow to say: (n + 1) / (n + 2) for the
    class of a clip, the rest for the others. It is where the slope of the cross-entropy passes through 0."""
    n, m = similarities.shape
    targets = np.full((n, m), 1 / (n + 2) / (m - 1))
    targets[np.arange(n), truth] = (n + 1) / (n + 2)
    unit = float(np.abs(similarities - similarities.mean(axis=1, keepdims=True)).mean())
    if unit == 0:  # all alike
        return 1.0
    low, high = (limit / unit for limit in SCALES)
    for _ in range(HALVINGS):
        middle = float(np.sqrt(low * high))
        odds = np.exp(middle * (similarities - similarities.max(axis=1, keepdims=True)))
        slope = ((odds / odds.sum(axis=1, keepdims=True) - targets) * similarities).sum()
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.sqrt(low * high))


def best_threshold(own: np.ndarray, other: np.ndarray) -> float:
    """Half-way between the two neighbors where (share of `own` above) + (share of `other` below) is largest."""
    cuts = np.unique(np.concatenate([own, other]))
    cuts = np.concatenate([[cuts[0] - 1], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1]])
    rates = (own[None] > cuts[:, None]).mean(axis=1) + (other[None] < cuts[:, None]).mean(axis=1)
    best = np.flatnonzero(rates == rates.max())
    return float(cuts[best[len(best) // 2]])


def save(path: Path, known: Prototypes) -> None:
    """Write the .npz; interrupted, an earlier file stays as it was."""
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
    """Read what `save` wrote; `encoder` and `width` are those of the network it is for."""
    if not path.is_file():
        raise Refused(f"{path} does not exist; it is what `enroll_tflite.py enroll` writes.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
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
        raise Refused(
            f"{path} is not a file of prototypes ({type(error).__name__}); enroll the classes again."
        ) from None
    if number != FORMAT or not fits:
        raise Refused(f"{path} is of a format this script does not know; enroll the classes again.")
    if known.points.shape[1] != width:
        raise Refused(
            f"{path} holds embeddings of width {known.points.shape[1]} and the network gives {width}; "
            "enroll the classes again with this network."
        )
    if known.encoder != encoder:
        raise Refused(f"{path} was made with another network; enroll the classes again with this one.")
    return known
