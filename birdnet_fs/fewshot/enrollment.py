"""Enrollment: new classes for a trained run from a few clips each, without training.

Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175. The numbers
of the head are computed by calibration.py. The prototypes are weights of the head, so the new run is scored, evaluated
and exported like any other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say, track
from birdnet_fs.data.copies import with_fingerprints
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.data.targets import UNKNOWN_CLASS
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.encoders.reference import RunEncoders, read_encoders, write_encoders
from birdnet_fs.fewshot.base import comparing_model, embedding_shape, has_classes, with_prototypes
from birdnet_fs.fewshot.calibration import CalibratedHead, EmbeddingDistance, calibrate
from birdnet_fs.fewshot.enrollment_inputs import enrollment_inputs, write_enrollment_inputs
from birdnet_fs.fewshot.support import SUPPORT, Support, excerpt_key, read_support, write_support
from birdnet_fs.inference.embed import Embedder, embed_clips, embedding_width, training_mean_embedding
from birdnet_fs.inference.encoder_run import run_embedder
from birdnet_fs.models.heads.prototypes import dense_layers
from birdnet_fs.runs.provenance import inherited, provenance
from birdnet_fs.runs.run import WEIGHTS, Run, build_network, model_weights, read_weights, save_run

SILENT_RMS = 1e-5  # -100 dB of full scale, below the quantization noise of 16 bits

Floats = NDArray[np.float32]


@locked("output")
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
    """Write a run that classifies the classes of the support.

    Classes with which `run` was enrolled are kept, and the new ones are added. Classes on which `run` was trained are
    left out, because they have no support to calibrate on.

    Args:
        run: Any trained run whose head reads an embedding (linear, cosine, prototypes).
        manifest: The support: clips of the new classes, one label each. None: classes are only removed.
        output: Folder of the new run.
        background: Clips without any of the classes, to calibrate "unknown" on. Default: ().
        remove: Classes to leave out. Default: ().
        extend: Add clips to classes that the run has already, instead of refusing them. Clips that are in the support
            already are not added again. Default: False.
        unknown: Add the class "unknown" for audio that is similar to no class. Default: True.

    Returns:
        The new run. Its `partition.csv` holds the clips of its support and those that the base run was trained on.

    Raises:
        UserError: The head has no embedding, a class to remove does not exist, or fewer than two classes are left.
            Errors of the support are passed on: none usable, a class that exists already, a clip without exactly one
            label, one clip only, or a damaged stored support.
    """
    if run.experiment.model.head == "sed":
        raise UserError(f"{run.path} has the head 'sed', which has no embedding; enroll into a run with another head.")
    options = {"remove": sorted(remove), "extend": extend, "unknown": unknown}
    given = enrollment_inputs(run, manifest.clips if manifest else (), background, options)
    model = comparing_model(run)
    embedder = run_embedder(run, model)
    support = read_support(run, embedding_width(model))
    if has_classes(run) and not (run.path / SUPPORT).is_file():
        say(
            f"The {len(run.classes)} classes that {run.path} was trained on are left out, because they have no support."
        )
    missing = [name for name in remove if name not in support.classes]
    if missing:
        raise UserError(
            f"--remove must name classes that {run.path} was enrolled with ({', '.join(support.classes) or 'none'})."
            f"{nearest(missing[0], support.classes)} Received: {missing[0]!r}"
        )
    support = support.without(remove)
    if manifest is not None:
        clips = _new_clips(manifest, run, support, extend)
        waveforms = _read_audible(clips, run, support)
        if len(waveforms):
            support = support + Support(waveforms.clips, embed_clips(embedder, waveforms, "embedding the support"))
    if len(support.classes) + unknown < 2:
        raise UserError(
            f'Two or more classes are needed, "unknown" included. Received: {", ".join(support.classes) or "none"}'
        )
    noises = _background(embedder, background, run.frontend.sample_rate_hz)
    head = calibrate(support.labels, support.embeddings, noises, embedding_distance(run, model), unknown=unknown)
    return _write(run, output, support, head, given)


def embedding_distance(run: Run, model: keras.Model) -> EmbeddingDistance:
    """Return how a run compares embeddings.

    Args:
        run: A run whose head reads an embedding.
        model: Network of the run.

    Returns:
        The distance of a head "prototypes"; for other heads, cosines around the mean embedding of the training clips,
        and for an encoder without them around the mean of the support.
    """
    settings, head = run.experiment.model, model.get_layer("logits")
    if not has_classes(run):
        return EmbeddingDistance("cosine", None)
    if settings.head != "prototypes":
        return EmbeddingDistance("cosine", training_mean_embedding(run, model, run_embedder(run, model)))
    if settings.distance == "cosine":
        return EmbeddingDistance("cosine", keras.ops.convert_to_numpy(head.center))
    if settings.distance == "euclidean":
        return EmbeddingDistance("euclidean", None)  # any center gives the same distances; their own rounds least
    origin = np.zeros(embedding_width(model), np.float32)  # a learned distance has no center
    return EmbeddingDistance("learned", origin, dense_layers(head.learned))


def _new_clips(manifest: Manifest, run: Run, known: Support, extend: bool) -> list[Clip]:
    """The clips of the manifest that are not in the support yet."""
    several = [clip for clip in manifest.clips if len(clip.labels) != 1]
    if several:
        raise UserError(
            f"Every support clip must have one label. Received: {several[0].path} with {len(several[0].labels)}"
        )
    labels = {clip.labels[0] for clip in manifest.clips}
    if UNKNOWN_CLASS in labels:
        raise UserError(
            f"The label {UNKNOWN_CLASS!r} is reserved for audio of no class; rename it, or give the clips with "
            "--background."
        )
    both = sorted(labels & set(known.classes))
    if both and not extend:
        raise UserError(
            f"{both[0]!r} is a class of {run.path} already ({len(both)} such); add clips to it with --extend, or "
            "remove it first with --remove."
        )
    held = {excerpt_key(clip): clip.labels[0] for clip in known.clips}
    clips = with_fingerprints(manifest.clips)
    for clip in clips:
        label = held.get(excerpt_key(clip), clip.labels[0])
        if label != clip.labels[0]:
            raise UserError(
                f"{clip.path} is in the support of {label!r} already, and a clip has one label; remove it from "
                f"{clip.labels[0]!r}, or use --remove {label!r}."
            )
    new = [clip for clip in clips if excerpt_key(clip) not in held]
    if len(new) < len(clips):
        first = next(clip.path for clip in clips if excerpt_key(clip) in held)
        n = len(clips) - len(new)
        say(f"{n} of {len(clips)} clips are in the support already and are not added again (the first: {first}).")
    return new


def _read_audible(clips: Sequence[Clip], run: Run, known: Support) -> Waveforms:
    """Waveforms of the clips that can be decoded and are not silent; the others are reported."""
    waveforms = Waveforms(clips, run.frontend.sample_rate_hz)
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())
    silent = [i for i in range(len(waveforms)) if float(np.sqrt(np.mean(np.square(waveforms[i])))) < SILENT_RMS]
    for i in silent:
        say(f"{waveforms.clips[i].path} is silent and was left out.")
    audible = [clip for i, clip in enumerate(waveforms.clips) if i not in silent]
    labels = sorted({clip.labels[0] for clip in clips})
    lost = sorted(set(labels) - {clip.labels[0] for clip in audible} - set(known.classes))
    if lost:
        raise UserError(f"Every clip of {lost[0]!r} is damaged or silent; give other recordings of this class.")
    for name in labels:
        own = {clip.recording_group for clip in audible if clip.labels[0] == name}
        if len(own) == 1 and name not in known.classes:
            say(
                f"All clips of {name!r} are from one recording; its individual and background become part of the class."
            )
    return Waveforms(audible, run.frontend.sample_rate_hz) if silent else waveforms


def _background(embedder: Embedder, clips: Sequence[Clip], sample_rate_hz: int) -> Floats:
    """Embeddings of single windows [n_windows, width], as in scoring."""
    if not clips:
        return np.empty((0, 0), np.float32)
    waveforms = Waveforms(clips, sample_rate_hz)
    if waveforms.ledger.counts()["quarantined"]:
        say(f"background: {waveforms.ledger.summary()}")
    rule = clip_rule(embedder.spec.n_samples, sample_rate_hz)
    windows = (w for i in range(len(waveforms)) for w in rule.cut(waveforms[i]))
    return np.stack([embedder.mean(w[None]) for w in track(windows, "embedding the background", unit="window")])


def _inherited(run: Run, support: Support) -> tuple[Clip, ...]:
    """The clips that the encoder was trained on, without the earlier support of an enrolled run."""
    if not has_classes(run) and not (run.path / PARTITION).is_file():  # the base of a foreign encoder
        return ()
    if (run.path / SUPPORT).is_file():
        return provenance(run.path).inherited
    return inherited([run.path], support.clips)


def _without_own_scores(encoders: RunEncoders, shape: tuple[int, ...]) -> RunEncoders:
    return RunEncoders(encoders.encoders, shape)


def _write(run: Run, output: Path, support: Support, head: CalibratedHead, given: Mapping[str, Any]) -> Run:
    old, kept = run.experiment, ("root", "table", "layout", "audio", "where", "label_column", "group_column")
    experiment = schema.Experiment(  # settings of the training do not apply to the enrolled run
        name=output.resolve().name,
        seed=old.seed,
        data=schema.Data(**{name: getattr(old.data, name) for name in kept}),
        frontend=old.frontend,
        model=dataclasses.replace(
            with_prototypes(old.model) if old.model.encoder else old.model,
            head="prototypes",
            distance=head.distance,
            logit_scale=head.scale,
            unknown=head.unknown is not None,
            weights="",
        ),
    )
    classes = (*support.classes, *([UNKNOWN_CLASS] if head.unknown is not None else []))
    encoders = read_encoders(run.path) if old.model.encoder else None
    model = build_network(experiment, len(classes), embedding_shape(run))
    layer = model.get_layer("logits")
    new = {layer.prototypes.path: head.prototypes, layer.center.path: head.center}
    if layer.has_bias:  # of a head that was trained
        new[layer.bias.path] = np.zeros(layer.bias.shape, np.float32)
    if head.unknown is not None:
        new[layer.unknown_logit.path] = np.array([head.unknown], np.float32)
    values = {**read_weights(run.path / WEIGHTS), **new}  # the weights of a learned distance stay
    for variable in model.weights:
        if "seed_generator" not in variable.path:
            variable.assign(values[variable.path])

    parts = Partition(
        Manifest((), classes, Ledger(), Path()), support.clips, (), (), inherited=_inherited(run, support)
    )

    def others(folder: Path) -> None:
        if encoders is not None:
            write_encoders(folder, _without_own_scores(encoders, embedding_shape(run)))
        write_support(folder, support)
        write_enrollment_inputs(folder, given)
        write_partition(folder / PARTITION, parts)

    return save_run(output, experiment, classes, model_weights(model), write_extra=others)
