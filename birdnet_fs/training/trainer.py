"""An experiment in, a run folder out: read and divide the clips, pretrain where asked, ask who teaches, fit, save."""

import dataclasses
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np
import torch

from birdnet_fs import models, schema
from birdnet_fs.batches.class_balance import loss_weights
from birdnet_fs.batches.loader import EpisodeOrder, TrainingBatches
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.data.copies import match_recordings
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, read_background
from birdnet_fs.data.partition import PARTITION, Partition, partition, write_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.runs import provenance, teachers
from birdnet_fs.runs.history import HISTORY, Row, Weights, write_history
from birdnet_fs.runs.initial_weights import load_initial_weights
from birdnet_fs.runs.resolve import is_finished, resolved, with_neutral_settings
from birdnet_fs.runs.run import Run, build_network, check_classes, load_run, save_run
from birdnet_fs.training import distillation, episodic, finetuning, pseudo_labels, validation
from birdnet_fs.training.callbacks import EpochCallbacks
from birdnet_fs.training.loop import DivergedError, Interrupted, TrainedWeights, Validate, device_of, run_epochs
from birdnet_fs.training.objective import Objective, supervised_objective
from birdnet_fs.training.tracking import tracker

PRETRAIN = provenance.PRETRAIN
GENERATIONS = "generations"  # folder in a run folder of the runs that taught it, with distillation.teacher=self
Read = Callable[[Sequence[Clip], int], Waveforms]
Watch = Callable[[str, Sequence[Row]], None]


def train(
    experiment: schema.Experiment,
    output: Path,
    *,
    pretrained: Path | None = None,
    generation: int | None = None,
    read: Read = Waveforms,
    watch: Watch | None = None,
) -> Run:
    """Train one run.

    Args:
        experiment: What to train; a `debug` experiment is cut down first.
        output: The run folder. What an earlier run left there is replaced from the first finished epoch on.
        pretrained: A run folder whose weights start this one. When the experiment has a `pretrain` part and none
            is given, that is trained first, into `output/pretrain`; without such a part `model.weights` is the start.
        generation: How many of its kind came before it in self-distillation: random weights are drawn anew for each.
            None = as many as `distillation` says.
        read: Decodes clips at a rate.
        watch: Is given the column that the best epoch goes by and the history after every epoch, and ends the training
            by raising.

    Returns:
        The finished run: weights, settings, classes, versions, `partition.csv`, `history.csv` (written after every
        epoch, as `checkpoints` and what `training.track` asks for are) and `recordings.csv` (the ledger of every input
        row).

    Raises:
        UserError: Settings, recordings or labels do not allow the training.
        DivergedError: Loss or gradient stopped being finite; the last good weights are in `output/diverged`.
        Interrupted: The person stopped it; the weights of the last epoch are in `output/interrupted`.
    """
    models.check_model(experiment.model)
    experiment = resolved(experiment)
    parts = partition(experiment)
    device = device_of(experiment.training.device)
    _check(experiment, parts)
    tracker.check_tracking(experiment.training)
    if experiment.episodes:
        episodic.check_episodes(parts, experiment.episodes, experiment.seed)
    torch.set_num_threads(experiment.training.threads or torch.get_num_threads())
    runs, saved = teachers.resolve_teachers(experiment, parts.classes)
    if experiment.model.weights and pretrained is None:
        pretrained = Path(experiment.model.weights)
    # what cannot be built, frozen or started is said before anything is decoded
    finetuning.freeze_blocks(
        _network(experiment, parts, device, pretrained), experiment.training.finetuning.freeze_blocks
    )
    parts = parts.with_fingerprints()
    leaks = parts.leaks()
    if leaks:
        say(f"The split leaks: {leaks}")
    for run in runs:
        provenance.refuse_trained_on(
            run.path, parts, "choose another distillation.teacher, for a fold one of the same fold"
        )
    windows = pseudo_labels.read_pseudo_labels(experiment, parts)
    if windows is not None:
        provenance.refuse_labels(experiment, parts)
        parts = dataclasses.replace(parts, pseudo_labels=windows.clips)
    if experiment.pretrain and pretrained is None:
        pretrained = pretrain(experiment, output / PRETRAIN)
    started = [pretrained] if pretrained is not None and pretrained.is_dir() else []
    for folder in started:
        provenance.refuse_trained_on(folder, parts, "choose other recordings for pretraining with pretrain.data.where")
    if experiment.distillation.teacher == schema.SELF:
        runs = (_train_generations(experiment, output, pretrained),)
    behind = [*started, *(run.path for run in runs), *provenance.labeling_runs(experiment)]
    parts = dataclasses.replace(parts, inherited=provenance.inherited(behind, (*parts.train, *parts.pseudo_labels)))
    teacher = distillation.build_teacher(runs, experiment, parts.classes, device)
    if generation is None:
        generation = experiment.distillation.rounds if experiment.distillation.teacher == schema.SELF else 0
    # of its kind each starts from weights of its own (Furlanello et al. 2018); all else is drawn alike
    seed_everything(experiment.seed, generation)
    waveforms = read((*parts.train, *parts.pseudo_labels), experiment.frontend.sample_rate_hz)
    _say_left_out(waveforms)
    data = experiment.data
    windows = windows.readable(parts.train, waveforms.clips) if windows else None
    n_labeled = len(waveforms) - (len(windows.clips) if windows else 0)
    targets = clip_targets(waveforms.clips[:n_labeled], parts.classes, multi_label=data.multi_label, data=data)
    order = _episodes(waveforms, experiment, parts)
    batches = TrainingBatches(
        waveforms,
        np.concatenate([targets, windows.targets]) if windows else targets,
        experiment,
        noises=_backgrounds(experiment, parts, read),
        order=order,
        teacher_frontends=teacher.frontends if teacher else (),
        teacher_probabilities=saved.of(waveforms.clips) if saved else None,
        pseudo_labels=windows.drawn_as(experiment.pseudo_labels, n_labeled) if windows and windows.clips else None,
    )
    model = _network(experiment, parts, device, pretrained, tell=True)
    say(f"{experiment.name}: {n_labeled} clips, {len(parts.classes)} classes, {model.count_params():,} parameters")
    validate = _validation(model, experiment, parts, read) if parts.val else None
    objective = dataclasses.replace(_objective(model, experiment, targets), classes=parts.classes)
    if teacher:
        objective = distillation.with_distillation(objective, model, teacher, experiment.distillation)

    def save(folder: Path, weights: Weights, history: Sequence[Row], *, callbacks: EpochCallbacks | None = None) -> Run:
        """`model` holds `weights`."""
        if experiment.episodes:
            weights = episodic.set_prototypes(model, weights, waveforms, experiment.frontend, parts.classes)
        return _save(folder, experiment, parts, weights, history, waveforms, callbacks)

    def save_last(folder: Path, fitted: TrainedWeights, callbacks: EpochCallbacks | None = None) -> Run:
        for variable in model.weights:
            if variable.path in fitted.weights:
                variable.assign(fitted.weights[variable.path])
        return save(folder, fitted.weights, fitted.history, callbacks=callbacks)

    callbacks = EpochCallbacks(output, experiment, objective.monitor, save)

    def after_epoch(history: Sequence[Row], weights: Weights) -> None:
        callbacks.after_epoch(history, weights)
        if watch is not None:
            watch(objective.monitor, history)

    try:
        fitted = run_epochs(
            model,
            batches,
            experiment.training,
            objective=objective,
            validate=validate,
            after_epoch=after_epoch,
        )
    except BaseException as error:
        callbacks.tracking.close(tracker.KILLED if isinstance(error, KeyboardInterrupt) else tracker.FAILED)
        if isinstance(error, (DivergedError, Interrupted)) and error.history:
            name = "diverged" if isinstance(error, DivergedError) else "interrupted"
            save_last(output / name, TrainedWeights(error.weights, error.history))
            say(f"The weights of the last good epoch ({len(error.history)}) are a run folder: {output / name}")
        raise
    callbacks.tracking.close(tracker.FINISHED)
    return save_last(output, fitted, callbacks)


def pretrain(experiment: schema.Experiment, output: Path) -> Path:
    """Train the `pretrain` part of an experiment into `output`, or take what finished there with the same settings.

    Seed, debug and all settings that do not make another run (device, threads, workers, track, checkpoints) are those
    of the experiment.
    """
    first = experiment.pretrain
    if first is None:
        raise UserError(f"Experiment {experiment.name!r} has no pretrain part.")
    first = with_neutral_settings(dataclasses.replace(first, seed=experiment.seed, debug=experiment.debug), experiment)
    if not is_finished(output, first):
        train(first, output)
    return output


def _train_generations(experiment: schema.Experiment, output: Path, pretrained: Path | None) -> Run:
    """The run that teaches in self-distillation: `rounds` generations, each taught by the one before it.

    They lie in `output/generations`, and what finished there with the same settings is taken.
    """
    taught = schema.Distillation()
    for generation in range(experiment.distillation.rounds):
        folder = output / GENERATIONS / str(generation)
        one = dataclasses.replace(experiment, distillation=taught)
        if not is_finished(folder, one):
            say(f"{experiment.name}: generation {generation} of {experiment.distillation.rounds} that teach")
            train(one, folder, pretrained=pretrained, generation=generation)
        taught = dataclasses.replace(experiment.distillation, teacher=os.path.abspath(folder), rounds=1)
    return load_run(folder)


def seed_everything(seed: int, generation: int = 0) -> None:
    """Seed the global generators that a training draws from: Python's (Keras initializers), NumPy's and torch's.

    `keras.utils.set_random_seed` gives all three one seed, so that NumPy's and torch's draw the same numbers (both are
    a Mersenne Twister), and loads TensorFlow where that is installed.

    Args:
        seed: 0 or more, of the experiment.
        generation: 0 or more: runs of self-distillation that came before this one.

    Raises:
        UserError: A number is negative.
    """
    random.seed(integer_seed(seed, Stream.INITIAL_WEIGHTS, generation))
    np.random.seed(integer_seed(seed, Stream.NUMPY, generation))
    torch.manual_seed(integer_seed(seed, Stream.TORCH, generation))


def _network(
    experiment: schema.Experiment, parts: Partition, device: str, start: Path | None, *, tell: bool = False
) -> keras.Model:
    with keras.device(device):
        model = build_network(experiment, len(parts.classes))
    if start is not None:
        told = load_initial_weights(start, model, experiment, parts.classes)
        if tell:
            say(told)
    return model


def _objective(model: keras.Model, experiment: schema.Experiment, targets: np.ndarray) -> Objective:
    if experiment.episodes:
        return episodic.episodic_objective(model, experiment.episodes)
    settings = experiment.training
    weights = loss_weights(targets, settings.loss.class_weights, rare_class_weight=settings.loss.rare_class_weight)
    return supervised_objective(model, settings, multi_label=experiment.data.multi_label, class_weights=weights)


def _episodes(waveforms: Waveforms, experiment: schema.Experiment, parts: Partition) -> EpisodeOrder | None:
    if experiment.episodes is None:
        return None
    return episodic.episode_order(waveforms, experiment.episodes, experiment.seed, parts.classes)


def _validation(model: keras.Model, experiment: schema.Experiment, parts: Partition, read: Read) -> Validate | None:
    spec = experiment.frontend
    if experiment.episodes and not experiment.episodes.n_val:
        return None
    waveforms = read(parts.val, spec.sample_rate_hz)
    _say_left_out(waveforms)
    if experiment.episodes:
        return episodic.episodic_validation(model, waveforms, spec, experiment.episodes, experiment.seed)
    targets = clip_targets(waveforms.clips, parts.classes, multi_label=experiment.data.multi_label)
    return validation.supervised_validation(model, waveforms, targets, experiment, parts.classes)


def _backgrounds(experiment: schema.Experiment, parts: Partition, read: Read) -> Waveforms | tuple[()]:
    """Background waveforms, none of them a recording that is held out or validated on, or a copy of one."""
    if not experiment.data.background or not experiment.augmentation.uses_background:
        return ()
    found = read_background(experiment.data).clips
    away = match_recordings(found, (*parts.val, *parts.held_out))
    clips = [clip for clip, same in zip(found, away, strict=True) if not same]
    if len(clips) < len(found):
        say(f"{len(found) - len(clips)} of {len(found)} background recordings are held out and were left out as noise.")
    waveforms = read(clips, experiment.frontend.sample_rate_hz)
    _say_left_out(waveforms)
    return waveforms


def _check(experiment: schema.Experiment, parts: Partition) -> None:
    check_classes(parts.classes)
    if not experiment.data.multi_label:
        several = [clip for clip in (*parts.train, *parts.val, *parts.held_out) if len(clip.labels) != 1]
        if several:
            raise UserError(
                f"{len(several)} clips have no label or more than one (the first: {several[0].path}, "
                f"{';'.join(several[0].labels) or 'none'}); set data.multi_label=true for those."
            )
    if parts.classes_unseen_in_training and experiment.episodes is None:
        raise UserError(
            "None of the classes that are validated on or held out is trained on, so they cannot be scored; use an "
            "experiment with episodes, or another data.split."
        )
    if experiment.model.unknown:
        raise UserError("model.unknown=true is for runs that enrollment made; train with model.unknown=false.")
    if len(parts.classes) < 2 and not experiment.data.multi_label:
        raise UserError(f"Two or more classes are needed to train. Received: {', '.join(parts.classes) or 'none'}")


def _ledger(parts: Partition, waveforms: Waveforms) -> Ledger:
    """Every row of the manifest as it ended: what reading the training clips found is put in."""
    read = {os.fspath(row.path): row for row in waveforms.ledger.rows if row.status != "ok"}
    ledger = Ledger()
    for row in parts.manifest.ledger.rows:
        worse = read.get(row.path) if row.status == "ok" else None
        kept = dataclasses.replace(worse, source=row.source) if worse else row
        ledger.add(kept.path, kept.status, kept.reason, kept.flags, kept.duration_s, kept.source)
    known = {row.path for row in ledger.rows}
    for path in dict.fromkeys(os.fspath(clip.path) for clip in parts.pseudo_labels):
        if path not in known:
            bad = read.get(path)
            ledger.add(path, bad.status if bad else "ok", bad.reason if bad else "", bad.flags if bad else ())
    return ledger


def _say_left_out(waveforms: Waveforms) -> None:
    if waveforms.ledger.counts()["quarantined"]:
        say(waveforms.ledger.summary())


def _save(
    output: Path,
    experiment: schema.Experiment,
    parts: Partition,
    weights: Weights,
    history: Sequence[Row],
    waveforms: Waveforms,
    callbacks: EpochCallbacks | None,
) -> Run:
    def others(folder: Path) -> None:
        write_history(folder / HISTORY, history)
        write_partition(folder / PARTITION, parts)
        _ledger(parts, waveforms).write(folder / "recordings.csv")
        if callbacks is not None:
            callbacks.tracking.write_locations(folder)

    return save_run(output, experiment, parts.classes, weights, write_extra=others)
