"""Enrolment: new classes for a trained run from a few clips each, without training.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175 (a
class is the mean of its clips' embeddings); Wang et al. 2019, "SimpleShot", https://arxiv.org/abs/1911.04623 (for a
network that was trained as a classifier: a centre is taken off and every embedding brought to length 1 first). The
prototypes are weights of the head, so the new run is scored, evaluated and exported like any other.

What is calibrated (the scale of the logits, and the logit of "unknown") looks at each clip with its own part taken
out of the prototype, so that a clip never tells how well it is known.
"""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from birdnet_fs import schema
from birdnet_fs.batches.waveforms import Waveforms, clip_windows
from birdnet_fs.fewshot.embed import embed_clips, middle_of_training, width_of
from birdnet_fs.plumbing.errors import UserError, nearest
from birdnet_fs.plumbing.files import atomic_path
from birdnet_fs.plumbing.progress import say, track
from birdnet_fs.recordings.manifest import Clip, Manifest
from birdnet_fs.training.episodic import Embedder
from birdnet_fs.training.partition import PARTITION, Partition, write_partition
from birdnet_fs.training.run_folder import WEIGHTS, Run, build_network, read_weights, save_run, weights_of

UNKNOWN = "unknown"
SUPPORT, SUPPORT_TABLE = "support.safetensors", "support.csv"
SILENT_RMS = 1e-5  # -100 dB of full scale: below the noise of 16 bits
SCALES = np.geomspace(1e-3, 100.0, 101)  # of the logits, tried in calibration
SCALE = 10.0  # where nothing can be calibrated: every class has one clip
KEPT = 0.95  # share of the support's own clips that "unknown" lets through when there is no background to hear

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Support:
    """What a run has learnt its classes from: one embedding for each clip."""

    labels: tuple[str, ...]
    paths: tuple[str, ...]
    embeddings: Floats  # [n_clips, width]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted(set(self.labels)))

    def only(self, keep: Sequence[bool]) -> "Support":
        """The clips where `keep` is true."""
        rows = [i for i, kept in enumerate(keep) if kept]
        labels, paths = (tuple(values[i] for i in rows) for values in (self.labels, self.paths))
        return Support(labels, paths, self.embeddings[rows])

    def __add__(self, other: "Support") -> "Support":
        embeddings = np.concatenate([self.embeddings, other.embeddings])
        return Support(self.labels + other.labels, self.paths + other.paths, embeddings)


def enrol(
    run: Run,
    manifest: Manifest | None,
    output: Path,
    *,
    background: Sequence[Clip] = (),
    remove: Sequence[str] = (),
    extend: bool = False,
    unknown: bool = True,
) -> Run:
    """Write a run that knows the classes of the support.

    Classes that `run` was enrolled with are kept and added to. Those of a run that was trained otherwise are left
    out: its head compares by other means than distances.

    Args:
        run: Any trained run whose head reads an embedding (linear, cosine, prototypes).
        manifest: The support: clips of the new classes, one label each; None when only something is removed.
        output: The new run's folder.
        background: Clips with none of the classes in them, to calibrate "unknown" on.
        remove: Classes to leave out.
        extend: Clips of a class that is known already are added to it; else they are refused.
        unknown: Add the class "unknown", which stands when nothing else is near enough.

    Returns:
        The new run.

    Raises:
        UserError: No embedding, no usable support, a class that is known already or not at all, fewer than two
            classes in the end, or a stored support that does not fit the network.
    """
    if run.experiment.model.head == "sed":
        raise UserError(f"{run.path} has the head 'sed', which reads frames; enrol into a run with an embedding.")
    model = run.build_model()
    embedder = Embedder(model, run.frontend)
    support = _stored(run, width=width_of(model))
    missing = [name for name in remove if name not in support.classes]
    if missing:
        raise UserError(
            f"--remove must name classes that {run.path} was enrolled with ({', '.join(support.classes) or 'none'})."
            f"{nearest(missing[0], support.classes)} Received: {missing[0]!r}"
        )
    support = support.only([label not in remove for label in support.labels])
    parts = None
    if manifest is not None:
        heard, waveforms = _heard(manifest, run, support, extend)
        support = support + Support(
            tuple(clip.labels[0] for clip in heard),
            tuple(str(clip.path) for clip in heard),
            embed_clips(embedder, waveforms, "embedding the support"),
        )
        parts = Partition(manifest, tuple(heard), (), ())
    if len(support.classes) + unknown < 2:
        raise UserError(
            f"Two or more classes are needed to tell apart. Received: {', '.join(support.classes) or 'none'}"
        )
    noises = _background(embedder, background, run.frontend.sample_rate_hz)
    head = calibrate(support, noises, _base(run, model, support), unknown=unknown)
    return _write(run, output, support, head, parts)


@dataclass(frozen=True)
class Head:
    """The numbers of a prototype head."""

    distance: Literal["euclidean", "cosine"]
    scale: float
    centre: Floats  # [width]
    prototypes: Floats  # [n_classes, width], classes sorted
    unknown: float | None  # logit of "unknown"; None when there is no such class


@dataclass(frozen=True)
class Base:
    """How a run compares embeddings."""

    distance: Literal["euclidean", "cosine"]
    centre: Floats  # [width]


def calibrate(support: Support, background: Floats, base: Base, *, unknown: bool) -> Head:
    """Prototypes, scale and the logit of "unknown" from embeddings alone.

    Args:
        support: Of all classes.
        background: Embeddings [n, width] of audio with none of the classes; may be of length 0.
        base: How embeddings are compared.
        unknown: Whether there is such a class.

    With a background the logit of "unknown" is the one that tells best between the support's own logits and the
    background's highest (largest sum of both rates); else it lets through KEPT of the support's own logits.
    """
    classes = support.classes
    truth = np.array([classes.index(label) for label in support.labels])
    points = _points(support.embeddings, base)
    counts = np.bincount(truth, minlength=len(classes))
    sums = np.zeros((len(classes), points.shape[1]))
    np.add.at(sums, truth, points)
    prototypes = (sums / counts[:, None]).astype(np.float32)
    near = _near(points, prototypes, base)
    several = counts[truth] > 1
    for i in np.flatnonzero(several):  # a clip's own class without it
        own = ((sums[truth[i]] - points[i]) / (counts[truth[i]] - 1)).astype(np.float32)
        near[i, truth[i]] = _near(points[i : i + 1], own[None], base)[0, 0]
    scale = _best_scale(near[several], truth[several]) if several.any() else SCALE
    logit = None
    if unknown:
        own = near[np.arange(len(truth)), truth]
        own = own[several] if several.any() else own
        if len(background):
            logit = scale * _best_threshold(own, _near(_points(background, base), prototypes, base).max(1))
        else:
            logit = scale * float(np.quantile(own, 1 - KEPT))
            if not several.any():
                # one clip each: how near another clip of a class would be is not known; half-way to the nearest other
                others = np.where(np.eye(len(classes), dtype=bool)[truth], -np.inf, near).max(1)
                logit = scale * float(np.median((own + others) / 2)) if len(classes) > 1 else logit
    # stored so that the head, which takes the centre off, finds the points again
    return Head(base.distance, float(scale), base.centre, prototypes + base.centre, logit)


def _points(embeddings: Floats, base: Base) -> Floats:
    """Embeddings where they are averaged: less the centre, and for cosines of length 1."""
    points = embeddings - base.centre
    if base.distance == "cosine":
        points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    return points


def _near(points: Floats, prototypes: Floats, base: Base) -> NDArray[np.float64]:
    """How near each point is to each prototype, [n, n_classes]: the head's logits at scale 1."""
    x, p = points.astype(np.float64), prototypes.astype(np.float64)
    if base.distance == "cosine":
        return x @ (p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-6)).T
    return 2 * x @ p.T - np.square(p).sum(1) - np.square(x).sum(1, keepdims=True)


def _best_scale(near: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """The scale under which the clips' own classes are likeliest."""
    logits = SCALES[:, None, None] * near
    top = logits.max(2, keepdims=True)
    log_sum = top[..., 0] + np.log(np.exp(logits - top).sum(2))
    likelihood = (logits[:, np.arange(len(truth)), truth] - log_sum).sum(1)
    return float(SCALES[likelihood.argmax()])


def _best_threshold(own: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Half-way between the two neighbours where (share of `own` above) + (share of `other` below) is largest."""
    cuts = np.unique(np.concatenate([own, other]))
    cuts = np.concatenate([[cuts[0] - 1.0], (cuts[1:] + cuts[:-1]) / 2, [cuts[-1] + 1.0]])
    rates = (own[None] > cuts[:, None]).mean(1) + (other[None] < cuts[:, None]).mean(1)
    best = np.flatnonzero(rates == rates.max())
    return float(cuts[best[len(best) // 2]])


def _base(run: Run, model: keras.Model, support: Support) -> Base:
    """How the run compares: its own way when it has prototypes, else cosines around the middle of its classes."""
    settings, head = run.experiment.model, model.get_layer("logits")
    if settings.head == "prototypes":
        if settings.distance == "learnt":
            raise UserError(
                f"{run.path} compares by a learnt distance, whose prototypes are not calibrated yet; train with "
                "model.distance=euclidean or cosine to enrol."
            )
        if settings.distance == "euclidean":
            return Base("euclidean", support.embeddings.mean(0))  # any centre will do, a near one keeps digits
        return Base("cosine", keras.ops.convert_to_numpy(head.centre))
    return Base("cosine", middle_of_training(run, model))


def _heard(manifest: Manifest, run: Run, known: Support, extend: bool) -> tuple[list[Clip], Waveforms]:
    """The clips that can be learnt from; broken and silent ones are said."""
    several = [clip for clip in manifest.clips if len(clip.labels) != 1]
    if several:
        raise UserError(f"Every support clip must have one label. Received: {several[0].path} with several or none")
    labels = {clip.labels[0] for clip in manifest.clips}
    if UNKNOWN in labels:
        raise UserError(f"The label {UNKNOWN!r} stands for none of the classes; rename it, or give --background.")
    both = sorted(labels & set(known.classes))
    if both and not extend:
        raise UserError(
            f"{both[0]!r} is a class of {run.path} already ({len(both)} such); add clips to it with --extend, or take "
            "it out first with --remove."
        )
    waveforms = Waveforms(manifest.clips, run.frontend.sample_rate_hz)
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())
    silent = [i for i in range(len(waveforms)) if float(np.sqrt(np.mean(np.square(waveforms[i])))) < SILENT_RMS]
    for i in silent:
        say(f"{waveforms.clips[i].path} is silent and was left out.")
    heard = [clip for i, clip in enumerate(waveforms.clips) if i not in silent]
    lost = sorted(labels - {clip.labels[0] for clip in heard})
    if lost:
        raise UserError(
            f"No clip of {lost[0]!r} can be learnt from: all are broken or silent. Give other recordings of it."
        )
    for name in sorted(labels):
        own = {clip.group or str(clip.path) for clip in heard if clip.labels[0] == name}
        if len(own) == 1:
            say(f"All clips of {name!r} are from one recording: its individual and background are learnt with it.")
    return heard, Waveforms(heard, run.frontend.sample_rate_hz) if silent else waveforms


def _background(embedder: Embedder, clips: Sequence[Clip], sample_rate_hz: int) -> Floats:
    """Embeddings of single windows: what is to be refused is heard window by window."""
    if not clips:
        return np.empty((0, 0), np.float32)
    waveforms = Waveforms(clips, sample_rate_hz)
    windows = (w for i in range(len(waveforms)) for w in clip_windows(waveforms[i], embedder.spec.n_samples))
    return np.stack([embedder.mean(w[None]) for w in track(windows, "embedding the background", unit="window")])


def _stored(run: Run, width: int) -> Support:
    """The support that the run was enrolled with; none for a run that was trained otherwise."""
    none = Support((), (), np.empty((0, width), np.float32))
    if not (run.path / SUPPORT).is_file():
        if run.classes:
            say(f"The {len(run.classes)} classes that {run.path} was trained on are left out: they have no support.")
        return none
    try:
        embeddings = load_file(run.path / SUPPORT)["embeddings"]
        with open(run.path / SUPPORT_TABLE, encoding="utf-8", errors="surrogateescape", newline="") as file:
            rows = [(row["label"], row["path"]) for row in csv.DictReader(file)]
    except (SafetensorError, OSError, KeyError) as error:
        raise UserError(f"The support in {run.path} cannot be read ({error}); enrol the classes again.") from None
    if embeddings.shape != (len(rows), width):
        raise UserError(
            f"{run.path / SUPPORT} must hold {len(rows)} embeddings of width {width}, those of its network. "
            f"Received: {list(embeddings.shape)}; enrol the classes again."
        )
    labels, paths = zip(*rows, strict=True) if rows else ((), ())
    return Support(labels, paths, embeddings)


def _write(run: Run, output: Path, support: Support, head: Head, parts: Partition | None) -> Run:
    old = run.experiment
    experiment = dataclasses.replace(
        old,
        name=output.resolve().name,
        data=dataclasses.replace(old.data, multi_label=False),
        model=dataclasses.replace(
            old.model,
            head="prototypes",
            distance=head.distance,
            logit_scale=head.scale,
            unknown=head.unknown is not None,
            weights="",
        ),
        augmentation=schema.Augmentation(),
        training=dataclasses.replace(old.training, loss="auto", margin=0.0, freeze_blocks=0),
        episodes=None,
        pretrain=None,
    )
    classes = (*support.classes, *([UNKNOWN] if head.unknown is not None else []))
    model = build_network(experiment, len(classes))
    kept = read_weights(run.path / WEIGHTS)
    for variable in model.weights:
        if not variable.path.startswith("logits/") and "seed_generator" not in variable.path:
            variable.assign(kept[variable.path])
    layer = model.get_layer("logits")
    layer.prototypes.assign(head.prototypes)
    layer.centre.assign(head.centre)
    if head.unknown is not None:
        layer.unknown_logit.assign(np.array([head.unknown], np.float32))

    def others(folder: Path) -> None:
        with atomic_path(folder / SUPPORT) as part:
            save_file({"embeddings": np.ascontiguousarray(support.embeddings, np.float32)}, part)
        with (
            atomic_path(folder / SUPPORT_TABLE) as part,
            open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["label", "path"])
            writer.writerows(zip(support.labels, support.paths, strict=True))
        if parts is not None:
            write_partition(folder / PARTITION, parts)

    return save_run(output, experiment, classes, weights_of(model), also=others)
