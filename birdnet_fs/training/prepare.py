"""Preparation of a training: checks of the clips, network, objective, validation and background noise."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from birdnet_fs import schema
from birdnet_fs.audio.recording_end import PAST_END
from birdnet_fs.batches.cache.features import ClipFeatures
from birdnet_fs.batches.cache.spectrogram_files import SpectrogramFiles
from birdnet_fs.batches.class_balance import loss_weights
from birdnet_fs.batches.loader import EpisodeOrder
from birdnet_fs.core.class_names import check_class_names
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.data.copies import match_recordings
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, read_background
from birdnet_fs.data.partition import Partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Read, Waveforms
from birdnet_fs.data.windows import WindowRule, clip_rule
from birdnet_fs.metrics.auroc import undefined_because
from birdnet_fs.runs.initial_weights import load_initial_weights
from birdnet_fs.runs.run import build_network
from birdnet_fs.training.episodic.evaluation import episodic_validation
from birdnet_fs.training.episodic.items import episode_order
from birdnet_fs.training.episodic.objective import episodic_objective
from birdnet_fs.training.loop import Validate
from birdnet_fs.training.objective import Objective, supervised_objective
from birdnet_fs.training.validation import supervised_validation


def check_clips(experiment: schema.Experiment, parts: Partition) -> None:
    """Check that the classes and labels of an experiment can be trained on.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.

    Raises:
        UserError: There are too few classes, a clip without exactly one label in single-label training, or no trained
            class among those of validation and test.
    """
    check_class_names(parts.classes)
    if not experiment.data.multi_label:
        several = [clip for clip in (*parts.train, *parts.val, *parts.held_out) if len(clip.labels) != 1]
        if several:
            raise UserError(
                f"{len(several)} clips have no label or more than one (the first: {several[0].path}, "
                f"{';'.join(several[0].labels) or 'none'}); set data.multi_label=true for those, or "
                "data.noise_label=class where the clips without a label are labeled noise."
            )
    if parts.classes_unseen_in_training and experiment.episodes is None:
        raise UserError(
            "No class of validation or test is among the training classes, so none can be scored; use an experiment "
            "with episodes, or another data.split."
        )
    if experiment.model.unknown:
        raise UserError("model.unknown=true is for runs written by enrollment; train with model.unknown=false.")
    if len(parts.classes) < 2 and not experiment.data.multi_label:
        raise UserError(f"Training needs two or more classes. Received: {', '.join(parts.classes) or 'none'}")


def build_initial_network(
    experiment: schema.Experiment, parts: Partition, device: str, pretrained: Path | None, *, report: bool = False
) -> keras.Model:
    """Build the network of an experiment and load its initial weights.

    Args:
        experiment: The resolved settings.
        parts: The divided clips, for the classes.
        device: Device of the weights.
        pretrained: Run folder or file with initial weights; None: random weights.
        report: Print a sentence about the loaded weights. Default: False.

    Returns:
        The network.
    """
    with keras.device(device):
        model = build_network(experiment, len(parts.classes))
    if pretrained is not None:
        message = load_initial_weights(pretrained, model, experiment, parts.classes)
        if report:
            say(message)
    return model


def build_objective(model: keras.Model, experiment: schema.Experiment, targets: np.ndarray) -> Objective:
    """Build the objective of an experiment, without a teacher.

    Args:
        model: The network.
        experiment: The resolved settings.
        targets: float32 [n_segments, n_classes], for the class weights.

    Returns:
        The objective of labeled clips or of episodes.
    """
    if experiment.episodes:
        return episodic_objective(model, experiment.episodes)
    settings = experiment.training
    weights = loss_weights(targets, settings.loss.class_weights, rare_class_weight=settings.loss.rare_class_weight)
    return supervised_objective(model, settings, multi_label=experiment.data.multi_label, class_weights=weights)


def build_episode_order(waveforms: Waveforms, experiment: schema.Experiment, parts: Partition) -> EpisodeOrder | None:
    """Build the order of the training episodes.

    Args:
        waveforms: The training clips.
        experiment: The resolved settings.
        parts: The divided clips, for the classes.

    Returns:
        The order, or None for an experiment without episodes.
    """
    if experiment.episodes is None:
        return None
    return episode_order(waveforms, experiment.episodes, experiment.seed, parts.classes)


def build_validation(
    model: keras.Model, experiment: schema.Experiment, parts: Partition, read: Read
) -> tuple[Validate | None, str]:
    """Read the validation clips and build the function that validates a model after each epoch.

    Args:
        model: The network.
        experiment: The resolved settings.
        parts: The divided clips.
        read: Decodes clips.

    Returns:
        The function, or None where there are no validation clips or episodes; and why the metric that ranks epochs is
        undefined on these clips, "" where it is defined.
    """
    spec = experiment.frontend
    if not parts.val or (experiment.episodes and not experiment.episodes.n_val):
        return None, ""
    waveforms = read(parts.val, spec.sample_rate_hz)
    report_left_out(waveforms)
    if experiment.episodes:  # check_episodes has drawn them: their accuracy is defined
        return episodic_validation(model, waveforms, spec, experiment.episodes, experiment.seed), ""
    targets = clip_targets(waveforms.clips, parts.classes, multi_label=experiment.data.multi_label)
    rule = clip_rule(spec.n_samples, spec.sample_rate_hz, experiment.data.clip_hop_s)
    kept = kept_features(waveforms, experiment, rule)
    validate = supervised_validation(model, waveforms, targets, experiment, parts.classes, kept)
    return validate, undefined_because(targets, parts.classes)


def kept_features(
    waveforms: Waveforms, experiment: schema.Experiment, rule: WindowRule | None = None
) -> Sequence[np.ndarray] | None:
    """Features of clips that are the same in every epoch, where the settings keep them.

    Args:
        waveforms: The clips.
        experiment: Settings; `training.cache`, `data.spectrograms` and `frontend` are used.
        rule: Rule by which clips are cut into windows. Default: None, the middle segment of each clip.

    Returns:
        float32 [n_windows, n_frames, n_mels] of each clip (1 window with `data.spectrograms`); None where they are
        computed when they are needed.
    """
    spec, data = experiment.frontend, experiment.data
    if data.spectrograms:
        return SpectrogramFiles(Path(data.spectrograms), waveforms, spec, data.root)
    return ClipFeatures(waveforms, spec, rule) if experiment.training.cache == "features" else None


def undefined_validation(experiment: schema.Experiment, parts: Partition) -> str:
    """Say why the metric that ranks epochs will be undefined on the validation clips, before any is decoded.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.

    Returns:
        The reason, without a full stop; "" where the metric is defined.
    """
    if experiment.episodes:
        return ""
    targets = clip_targets(parts.val, parts.classes, multi_label=experiment.data.multi_label)
    return undefined_because(targets, parts.classes)


def background_noise(experiment: schema.Experiment, parts: Partition) -> tuple[Clip, ...]:
    """The background recordings, without copies of recordings that are held out or validated on.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.

    Returns:
        The recordings; () when no augmentation uses them.
    """
    if not experiment.data.background or not experiment.augmentation.uses_background:
        return ()
    found = read_background(experiment.data).clips
    away = match_recordings(found, (*parts.val, *parts.held_out))
    clips = tuple(clip for clip, same in zip(found, away, strict=True) if not same)
    if len(clips) < len(found):
        say(f"{len(found) - len(clips)} of {len(found)} background recordings are held out and not used as noise.")
    return clips


def read_background_noise(experiment: schema.Experiment, parts: Partition, read: Read) -> Waveforms | tuple[()]:
    """Read the recordings of `background_noise`.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.
        read: Decodes clips.

    Returns:
        The waveforms; () when there are none.
    """
    clips = background_noise(experiment, parts)
    if not clips:
        return ()
    waveforms = read(clips, experiment.frontend.sample_rate_hz)
    report_left_out(waveforms)
    return waveforms


def report_left_out(waveforms: Waveforms) -> None:
    """Print how many clips could not be read."""
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())


def with_leaks_reported(parts: Partition) -> Partition:
    """Add the fingerprints of the recordings, and print which of them are in more than one part.

    Args:
        parts: The divided clips.

    Returns:
        The same clips with fingerprints.
    """
    parts = parts.with_fingerprints()
    leaks = parts.leaks()
    if leaks:
        say(f"The split leaks: {leaks}")
    elif leaks.repeated:
        say(f"Note: {leaks}")
    return parts


def training_ledger(parts: Partition, read: Ledger) -> Ledger:
    """List every row of the manifest with its final status, including what reading the training clips found.

    Args:
        parts: The divided clips.
        read: The outcome of reading the training clips.

    Returns:
        The ledger, with one row for each recording with pseudo-labels as well.
    """
    found = [row for row in read.rows if row.status != "ok"]
    whole = {os.fspath(row.path): row for row in found if PAST_END not in row.flags}
    cut = {(os.fspath(row.path), row.source): row for row in found if PAST_END in row.flags}
    ledger = Ledger()
    for row in parts.manifest.ledger.rows:
        worse = (whole.get(row.path) or cut.get((row.path, row.source))) if row.status == "ok" else None
        kept = dataclasses.replace(worse, source=row.source) if worse else row
        ledger.add(kept.path, kept.status, kept.reason, kept.flags, kept.duration_s, kept.source)
    known = {row.path for row in ledger.rows}
    for path in dict.fromkeys(os.fspath(clip.path) for clip in parts.pseudo_labels):
        if path not in known:
            bad = whole.get(path)
            ledger.add(path, bad.status if bad else "ok", bad.reason if bad else "", bad.flags if bad else ())
    return ledger
