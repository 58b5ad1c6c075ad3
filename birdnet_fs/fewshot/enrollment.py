"""Enrollment: new classes for a trained run from a few clips each, without training.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175.
What is computed stands in calibration.py. The prototypes are weights of the head, so the new run is scored, evaluated
and exported like any other.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.progress import say, track
from birdnet_fs.data.copies import with_fingerprints
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.fewshot.calibration import EmbeddingDistance, CalibratedHead, calibrate
from birdnet_fs.fewshot.support import SUPPORT, Support, read_support, excerpt_key, write_support
from birdnet_fs.inference.embed import Embedder, embed_clips, embedding_width, training_mean_embedding
from birdnet_fs.models.heads.prototypes import dense_layers
from birdnet_fs.runs.provenance import inherited, provenance
from birdnet_fs.runs.run import WEIGHTS, Run, build_network, model_weights, read_weights, save_run

UNKNOWN = "unknown"
SILENT_RMS = 1e-5  # -100 dB of full scale: below the noise of 16 bits

Floats = NDArray[np.float32]


def enroll(
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
    out: they have no support to be calibrated on.

    Args:
        run: Any trained run whose head reads an embedding (linear, cosine, prototypes).
        manifest: The support: clips of the new classes, one label each; None when only something is removed.
        output: The new run's folder.
        background: Clips with none of the classes in them, to calibrate "unknown" on.
        remove: Classes to leave out.
        extend: Clips of a class that is known already are added to it; else they are refused. A clip that is in the
            support already is not counted twice.
        unknown: Add the class "unknown", which stands when nothing else is near enough.

    Returns:
        The new run. Its `partition.csv` holds the clips of its support, and what the run behind it was trained on.

    Raises:
        UserError: No embedding, no usable support, a class that is known already or not at all, a clip with two
            labels, fewer than two classes in the end, one clip alone, or a stored support that does not fit.
    """
    if run.experiment.model.head == "sed":
        raise UserError(f"{run.path} has the head 'sed', which reads frames; enroll into a run with an embedding.")
    model = run.build_model()
    embedder = Embedder(model, run.frontend)
    support = read_support(run, embedding_width(model))
    if run.classes and not (run.path / SUPPORT).is_file():
        say(f"The {len(run.classes)} classes that {run.path} was trained on are left out: they have no support.")
    missing = [name for name in remove if name not in support.classes]
    if missing:
        raise UserError(
            f"--remove must name classes that {run.path} was enrolled with ({', '.join(support.classes) or 'none'})."
            f"{nearest(missing[0], support.classes)} Received: {missing[0]!r}"
        )
    support = support.without(remove)
    if manifest is not None:
        clips = _new_clips(manifest, run, support, extend)
        heard = _check_not_trained_on(clips, run, support)
        if len(heard):
            support = support + Support(heard.clips, embed_clips(embedder, heard, "embedding the support"))
    if len(support.classes) + unknown < 2:
        raise UserError(
            f"Two or more classes are needed to tell apart. Received: {', '.join(support.classes) or 'none'}"
        )
    noises = _background(embedder, background, run.frontend.sample_rate_hz)
    head = calibrate(support.labels, support.embeddings, noises, embedding_distance(run, model), unknown=unknown)
    return _write(run, output, support, head)


def embedding_distance(run: Run, model: keras.Model) -> EmbeddingDistance:
    """How a run compares embeddings: its own way when it has prototypes, else cosines around the middle of its classes.

    Args:
        run: A run whose head reads an embedding.
        model: Its network.
    """
    settings, head = run.experiment.model, model.get_layer("logits")
    if settings.head != "prototypes":
        return EmbeddingDistance("cosine", training_mean_embedding(run, model))
    if settings.distance == "cosine":
        return EmbeddingDistance("cosine", keras.ops.convert_to_numpy(head.center))
    if settings.distance == "euclidean":
        return EmbeddingDistance("euclidean", None)  # any center will do, a near one keeps digits
    nowhere = np.zeros(embedding_width(model), np.float32)  # a learned distance knows no center
    return EmbeddingDistance("learned", nowhere, dense_layers(head.learned))


def _new_clips(manifest: Manifest, run: Run, known: Support, extend: bool) -> list[Clip]:
    """The clips of the manifest that are not in the support yet."""
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
    held = {excerpt_key(clip): clip.labels[0] for clip in known.clips}
    clips = with_fingerprints(manifest.clips)
    for clip in clips:
        label = held.get(excerpt_key(clip), clip.labels[0])
        if label != clip.labels[0]:
            raise UserError(
                f"{clip.path} is in the support of {label!r} already, and a clip has one label; take it out of "
                f"{clip.labels[0]!r}, or --remove {label!r}."
            )
    new = [clip for clip in clips if excerpt_key(clip) not in held]
    if len(new) < len(clips):
        first = next(clip.path for clip in clips if excerpt_key(clip) in held)
        n = len(clips) - len(new)
        say(f"{n} of {len(clips)} clips are in the support already and are not counted twice: {first} first.")
    return new


def _check_not_trained_on(clips: Sequence[Clip], run: Run, known: Support) -> Waveforms:
    """What can be learned from; broken and silent clips are said."""
    waveforms = Waveforms(clips, run.frontend.sample_rate_hz)
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())
    silent = [i for i in range(len(waveforms)) if float(np.sqrt(np.mean(np.square(waveforms[i])))) < SILENT_RMS]
    for i in silent:
        say(f"{waveforms.clips[i].path} is silent and was left out.")
    heard = [clip for i, clip in enumerate(waveforms.clips) if i not in silent]
    labels = sorted({clip.labels[0] for clip in clips})
    lost = sorted(set(labels) - {clip.labels[0] for clip in heard} - set(known.classes))
    if lost:
        raise UserError(
            f"No clip of {lost[0]!r} can be learned from: all are broken or silent. Give other recordings of it."
        )
    for name in labels:
        own = {clip.recording_group for clip in heard if clip.labels[0] == name}
        if len(own) == 1 and name not in known.classes:
            say(f"All clips of {name!r} are from one recording: its individual and background are learned with it.")
    return Waveforms(heard, run.frontend.sample_rate_hz) if silent else waveforms


def _background(embedder: Embedder, clips: Sequence[Clip], sample_rate_hz: int) -> Floats:
    """Embeddings of single windows: what is to be refused is heard window by window."""
    if not clips:
        return np.empty((0, 0), np.float32)
    waveforms = Waveforms(clips, sample_rate_hz)
    rule = clip_rule(embedder.spec.n_samples, sample_rate_hz)
    windows = (w for i in range(len(waveforms)) for w in rule.cut(waveforms[i]))
    return np.stack([embedder.mean(w[None]) for w in track(windows, "embedding the background", unit="window")])


def _inherited(run: Run, support: Support) -> tuple[Clip, ...]:
    """What the encoder was trained on; the earlier support of an enrolled run is no part of that."""
    if (run.path / SUPPORT).is_file():
        return provenance(run.path).inherited
    return inherited([run.path], support.clips)


def _write(run: Run, output: Path, support: Support, head: CalibratedHead) -> Run:
    old, heard = run.experiment, ("root", "table", "layout", "audio", "where", "label_column", "group_column")
    experiment = schema.Experiment(  # how the run was trained does not hold for what comes out
        name=output.resolve().name,
        seed=old.seed,
        data=schema.Data(**{name: getattr(old.data, name) for name in heard}),
        frontend=old.frontend,
        model=dataclasses.replace(
            old.model,
            head="prototypes",
            distance=head.distance,
            logit_scale=head.scale,
            unknown=head.unknown is not None,
            weights="",
        ),
    )
    classes = (*support.classes, *([UNKNOWN] if head.unknown is not None else []))
    model = build_network(experiment, len(classes))
    layer = model.get_layer("logits")
    new = {layer.prototypes.path: head.prototypes, layer.center.path: head.center}
    if head.unknown is not None:
        new[layer.unknown_logit.path] = np.array([head.unknown], np.float32)
    values = {**read_weights(run.path / WEIGHTS), **new}  # a learned distance goes on as it is
    for variable in model.weights:
        if "seed_generator" not in variable.path:
            variable.assign(values[variable.path])

    parts = Partition(
        Manifest((), classes, Ledger(), Path()), support.clips, (), (), inherited=_inherited(run, support)
    )

    def others(folder: Path) -> None:
        write_support(folder, support)
        write_partition(folder / PARTITION, parts)

    return save_run(output, experiment, classes, model_weights(model), write_extra=others)
