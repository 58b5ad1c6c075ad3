"""Training of one run: from an experiment to a run folder."""

import dataclasses
import functools
import os
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from birdnet_fs import schema
from birdnet_fs.batches.cache.waveforms import waveform_reader
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.core import stopping
from birdnet_fs.core.distributed import group
from birdnet_fs.core.distributed.exchange import from_main
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import say
from birdnet_fs.core.random_streams import Stream, integer_seed
from birdnet_fs.data.partition import PARTITION, Partition, write_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Read, Waveforms
from birdnet_fs.inference.encoder_settings import with_encoder
from birdnet_fs.runs import inputs, provenance
from birdnet_fs.runs.history import HISTORY, Row, Weights, write_history
from birdnet_fs.runs.resolve import is_finished, pretraining
from birdnet_fs.runs.run import DIVERGED, INTERRUPTED, Run, load_run, save_run
from birdnet_fs.training import distillation, prepare, pseudo_labels
from birdnet_fs.training.callbacks import EpochCallbacks, progress_folder
from birdnet_fs.training.checks.network import check_network_training
from birdnet_fs.training.distributed.checks import check_experiment
from birdnet_fs.training.episodic.objective import set_prototypes
from birdnet_fs.training.loop import DivergedError, Interrupted, TrainingEndedError, run_epochs
from birdnet_fs.training.on_encoders.training import train_head
from birdnet_fs.training.rescue import save_safely
from birdnet_fs.training.resume.state import STATE, ResumeState, training_identity

PRETRAIN = provenance.PRETRAIN
# Windows of each class, for the prototypes of a training in episodes that is not finished; those of the finished run
# are means over all clips.
WINDOWS_OF_A_CHECKPOINT = 20  # an epoch of 2,000 episodes embeds some hundred times as many
WINDOWS_AFTER_SIGNAL = 5  # a cluster waits 30 s after a signal
GENERATIONS = "generations"  # folder, in a run folder, of its teachers with distillation.teacher=self
Watch = Callable[[str, Sequence[Row]], None]  # (name of the monitored column, rows of all finished epochs)


@locked("output")
def train(
    experiment: schema.Experiment,
    output: Path,
    *,
    pretrained: Path | None = None,
    generation: int | None = None,
    read: Read | None = None,
    watch: Watch | None = None,
    rescue: bool = True,
    copy_encoder: bool = False,
) -> Run:
    """Train one run.

    Settings, recordings and labels that cannot be trained on give a UserError before anything is decoded.

    Args:
        experiment: Settings; `debug=True` reduces them first.
        output: The run folder. An earlier run there stays until the new one is whole, and is then replaced in one step.
        pretrained: Run folder with initial weights. None: the result of the `pretrain` part of the experiment, which is
            trained into `output/pretrain` first, or `model.weights`.
        generation: Number of generations before this one in self-distillation; each has its own random initial weights.
            None: as many as `distillation.rounds`.
        read: Decodes clips at a sample rate. Default: None, with the cache of the settings (`data.cache`).
        watch: Called after every epoch with the monitored column and the history; ends the training by raising.
        rescue: Whether weights that cannot be written to `output` (a full disk) are written again after a while, and
            elsewhere if that fails (`rescue.save_safely`). Default: True.
        copy_encoder: Whether, for a head on `model.encoder`, the files of the encoders are copied into the run.
            Default: False.

    A training that was stopped, or whose process was killed, goes on from its state in `output` (resume/). Of several
    processes that train together (distributed/), each calls this function, and the main one writes the run.

    Returns:
        The finished run: weights, settings, classes, versions, `partition.csv`, `history.csv` (written after every
        epoch, like the checkpoints and tracked metrics) and `recordings.csv` (the ledger of every row of the manifest).

    Raises:
        UserError: `output` holds the state of another training, or a damaged one.
        DivergedError: A loss or gradient is not finite; the last good weights are a run folder named "diverged".
        Interrupted: The user or a signal stopped it at the end of a batch; the weights are a run folder named
            "interrupted", like those of a TrainingEndedError. Both are in `progress_folder(output)`.
    """
    check_experiment(experiment)
    if experiment.model.encoder:
        return train_head(with_encoder(experiment), output, copy_encoder=copy_encoder, watch=watch)
    checked = check_network_training(experiment, pretrained=pretrained)
    experiment, parts, device, pretrained = checked.experiment, checked.parts, checked.device, checked.pretrained
    runs, saved, embedded, distilled = checked.teachers, checked.saved, checked.embedded, experiment.distillation
    if generation is None:
        generation = distilled.rounds if distilled.teacher == schema.SELF else 0
    state = ResumeState(output / STATE, training_identity(experiment, parts, checked.made_from, generation))
    resumed = state.check()
    torch.set_num_threads(experiment.training.threads or torch.get_num_threads())
    parts = prepare.with_leaks_reported(parts)
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
    initial = [pretrained] if pretrained is not None and pretrained.is_dir() else []
    for folder in initial:
        provenance.refuse_trained_on(folder, parts, "choose other recordings for pretraining with pretrain.data.where")
    if distilled.teacher == schema.SELF:
        runs = (_train_generations(experiment, output, pretrained),)
    base_runs = [*initial, *(run.path for run in runs), *provenance.labeling_runs(experiment)]
    parts = dataclasses.replace(parts, inherited=provenance.inherited(base_runs, (*parts.train, *parts.pseudo_labels)))
    by_clip = saved is not None
    teacher = distillation.build_teacher(
        () if by_clip else runs,
        experiment,
        parts.classes,
        device,
        by_clip=by_clip,
        widths=embedded.widths if embedded else (),
    )
    # generations differ in their initial weights only (Furlanello et al. 2018)
    seed_everything(experiment.seed, generation)
    read = read or waveform_reader(experiment.data)
    waveforms = read((*parts.train, *parts.pseudo_labels), experiment.frontend.sample_rate_hz)
    prepare.report_left_out(waveforms)
    data = experiment.data
    windows = windows.readable(parts.train, waveforms.clips) if windows else None
    n_labeled = len(waveforms) - (len(windows.clips) if windows else 0)
    targets = clip_targets(waveforms.clips[:n_labeled], parts.classes, multi_label=data.multi_label, data=data)
    order = prepare.build_episode_order(waveforms, experiment, parts)
    batches = TrainingBatches(
        waveforms,
        np.concatenate([targets, windows.targets]) if windows else targets,
        experiment,
        noises=prepare.read_background_noise(experiment, parts, read),
        order=order,
        teacher_frontends=teacher.frontends if teacher else (),
        teacher_probabilities=saved.of(waveforms.clips) if saved else None,
        teacher_embeddings=embedded.of(waveforms.clips) if embedded else None,
        pseudo_labels=windows.drawn_as(experiment.pseudo_labels, n_labeled) if windows and windows.clips else None,
        kept=prepare.kept_features(waveforms, experiment),
    )
    model = prepare.build_initial_network(experiment, parts, device, pretrained, report=True)
    say(
        f"{experiment.name}: {n_labeled} clips, {len(parts.classes)} classes, {model.count_params():,} parameters, "
        f"{experiment.training.epochs} epochs of {len(batches)} steps"
    )
    validate, undefined = prepare.build_validation(model, experiment, parts, read)
    objective = dataclasses.replace(prepare.build_objective(model, experiment, targets), classes=parts.classes)
    if teacher:
        objective = distillation.with_distillation(objective, model, teacher, distilled)

    def save(folder: Path, weights: Weights, history: Sequence[Row], *, finished: bool = False) -> Run:
        """Write a run; `model` holds `weights`."""
        if experiment.episodes:
            some = WINDOWS_AFTER_SIGNAL if stopping.received() else WINDOWS_OF_A_CHECKPOINT
            per_class = None if finished and not stopping.received() else some
            weights = set_prototypes(model, weights, waveforms, experiment.frontend, parts.classes, per_class)
        kept = callbacks if finished else None
        return _save(folder, experiment, parts, weights, history, waveforms, kept, checked.made_from)

    def save_last(folder: Path, weights: Weights, history: Sequence[Row], *, finished: bool = False) -> Run:
        for variable in model.weights:
            if variable.path in weights:
                variable.assign(weights[variable.path])
        pauses_s = None if finished and rescue else ()
        return save_safely(
            folder, lambda place: save(place, weights, history, finished=finished), pauses_s, elsewhere=rescue
        )

    def save_early(folder: Path, error: DivergedError | Interrupted | TrainingEndedError, which: str) -> None:
        """Save the weights of a training that ends before its time; that this fails hides no other error."""
        try:
            saved = save_last(folder, error.weights, error.history).path
            say(f"The weights {which} are a run folder: {saved}; model.weights={saved} starts from them.")
        except UserError as problem:
            say(str(problem))

    if not group.is_main():
        try:
            run_epochs(model, batches, experiment.training, objective=objective, validate=validate, resume=state)
        except (DivergedError, Interrupted):
            group.await_main()
            raise
        return load_run(Path(from_main(str)))
    progress = progress_folder(output, resumed=resumed)
    callbacks = EpochCallbacks(output, progress, experiment, objective.monitor, save, state.history())

    def after_epoch(history: Sequence[Row], weights: Weights) -> None:
        callbacks.after_epoch(history, weights)
        if watch is not None:
            watch(objective.monitor, history)

    with callbacks.tracking:
        try:
            if watch is not None and (earlier := state.history()):
                watch(objective.monitor, earlier)
            trained = run_epochs(
                model,
                batches,
                experiment.training,
                objective=objective,
                validate=validate,
                after_epoch=after_epoch,
                undefined_because=undefined,
                resume=state,
            )
        except DivergedError as error:
            shutil.rmtree(state.folder, ignore_errors=True)  # it would become infinite at the same step again
            if error.history:
                save_early(progress / DIVERGED, error, f"of the last good epoch ({len(error.history)})")
            raise
        except (Interrupted, TrainingEndedError) as error:
            if error.n_batches:
                save_early(
                    progress / INTERRUPTED, error, f"after {len(error.history)} epochs ({error.n_batches} batches)"
                )
            raise
    run = save_last(output, trained.weights, trained.history, finished=True)
    from_main(lambda: str(run.path))
    return run


@locked("output", wait=True)  # the folds of a cross-validation, one job each, share it
def pretrain(experiment: schema.Experiment, output: Path) -> Path:
    """Train the `pretrain` part of an experiment, unless the folder holds its finished run of the same recordings.

    Seed, debug and all settings that do not change a run (device, threads, workers, track, checkpoints) are those of
    the experiment.

    Args:
        experiment: An experiment with a `pretrain` part.
        output: The run folder.

    Returns:
        The run folder.

    Raises:
        UserError: The experiment has no `pretrain` part.
    """
    first = pretraining(experiment)
    if first is None:
        raise UserError(f"Experiment {experiment.name!r} has no pretrain part.")
    if not from_main(lambda: is_finished(output, first)):
        train(first, output)
    return output


def _train_generations(experiment: schema.Experiment, output: Path, pretrained: Path | None) -> Run:
    """Train the teacher of self-distillation: `rounds` generations, each with the previous one as its teacher.

    They are in `output/generations`; finished generations with the same settings are used again.
    """
    distilled = schema.Distillation()
    for generation in range(experiment.distillation.rounds):
        folder = output / GENERATIONS / str(generation)
        one = dataclasses.replace(experiment, distillation=distilled)
        if not from_main(functools.partial(is_finished, folder, one)):
            say(f"{experiment.name}: teacher generation {generation + 1} of {experiment.distillation.rounds}")
            train(one, folder, pretrained=pretrained, generation=generation)
        distilled = dataclasses.replace(experiment.distillation, teacher=os.path.abspath(folder), rounds=1)
    return load_run(folder)


def seed_everything(seed: int, generation: int = 0) -> None:
    """Seed the global random generators that are drawn from: Python's (Keras initializers) and torch's.

    `keras.utils.set_random_seed` is not used: it gives both one seed, and it loads TensorFlow where that is installed.

    Args:
        seed: Seed of the experiment, 0 or more.
        generation: Number of generations of self-distillation before this one, 0 or more. Default: 0.
    """
    random.seed(integer_seed(seed, Stream.INITIAL_WEIGHTS, generation))
    torch.manual_seed(integer_seed(seed, Stream.TORCH, generation))


def _save(
    output: Path,
    experiment: schema.Experiment,
    parts: Partition,
    weights: Weights,
    history: Sequence[Row],
    waveforms: Waveforms,
    callbacks: EpochCallbacks | None,
    made_from: Mapping[str, Any],
) -> Run:
    def others(folder: Path) -> None:
        inputs.write_inputs(folder, made_from)
        if history:
            write_history(folder / HISTORY, history)
        write_partition(folder / PARTITION, parts)
        prepare.training_ledger(parts, waveforms.ledger).write(folder / "recordings.csv")
        if callbacks is not None:
            callbacks.add_to(folder)

    return save_run(output, experiment, parts.classes, weights, write_extra=others)
