"""An experiment in, a run folder out: read and divide the clips, pretrain where asked, fit, save."""

import csv
import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import TrainingBatches, network_input
from birdnet_fs.batches.waveforms import Waveforms, clip_windows
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.models.lowering import lower
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.plumbing.files import atomic_path
from birdnet_fs.plumbing.progress import say
from birdnet_fs.recordings.manifest import Clip, read_background
from birdnet_fs.training.fit import DivergedError, Fitted, Validate, device_of, fit
from birdnet_fs.training.metrics import macro_auroc
from birdnet_fs.training.partition import Partition, partition
from birdnet_fs.training.run_folder import WEIGHTS, Run, build_network, load_run, load_weights, save_run

PRETRAIN = "pretrain"


def train(experiment: schema.Experiment, output: Path, *, pretrained: Path | None = None) -> Run:
    """Train one run.

    Args:
        experiment: What to train; a `debug` experiment is cut down first.
        output: The run folder. It becomes a run when training has finished.
        pretrained: A run folder whose weights start this one, all but the last layer. When the experiment has a
            `pretrain` part and none is given, that is trained first, into `output/pretrain`.

    Returns:
        The finished run: weights, settings, classes, versions, `history.csv`, `recordings.csv` (the ledger).

    Raises:
        UserError: Settings, recordings or labels do not allow the training.
        DivergedError: The loss stopped being finite; the last good weights are in `output/diverged`.
    """
    experiment = schema.debugged(experiment)
    parts = partition(experiment)
    _check(experiment, parts)
    if experiment.pretrain and pretrained is None:
        pretrained = pretrain(experiment, output / PRETRAIN)
    seed_everything(experiment.seed)
    torch.set_num_threads(experiment.training.threads or torch.get_num_threads())
    waveforms = Waveforms(parts.train, experiment.frontend.sample_rate_hz)
    batches = TrainingBatches(
        waveforms, targets_of(waveforms.clips, parts.classes), experiment, noises=_backgrounds(experiment)
    )
    with keras.device(device_of(experiment.training.device)):
        model = build_network(experiment, len(parts.classes))
    if pretrained is not None:
        load_weights(model, load_run(pretrained).path / WEIGHTS, skip=("logits/",))
    say(f"{experiment.name}: {len(waveforms)} clips, {len(parts.classes)} classes, {model.count_params():,} parameters")
    validate = _validation(model, experiment, parts) if parts.val else None
    try:
        fitted = fit(model, batches, experiment.training, multi_label=experiment.data.multi_label, validate=validate)
    except DivergedError as error:
        _save(output / "diverged", experiment, parts, Fitted(error.weights, error.history))
        raise
    run = _save(output, experiment, parts, fitted)
    waveforms.ledger.write(output / "recordings.csv")
    return run


def pretrain(experiment: schema.Experiment, output: Path) -> Path:
    """Train the `pretrain` part of an experiment into `output`, or take what finished there with the same settings.

    The data root of the experiment is used where the part names none.
    """
    first = experiment.pretrain
    if first is None:
        raise UserError(f"Experiment {experiment.name!r} has no pretrain part.")
    if first.data.root == schema.Data().root:
        first = dataclasses.replace(first, data=dataclasses.replace(first.data, root=experiment.data.root))
    first = schema.debugged(dataclasses.replace(first, seed=experiment.seed, debug=experiment.debug))
    if not finished(output, first):
        train(first, output)
    return output


def seed_everything(seed: int) -> None:
    """Seed every generator that a training draws from: Python's (Keras initializers), numpy's and torch's.

    `keras.utils.set_random_seed` does the same, but loads TensorFlow for it where that is installed.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def finished(folder: Path, experiment: schema.Experiment) -> bool:
    """True when `folder` is a run with exactly these settings."""
    try:
        return load_run(folder).experiment == schema.debugged(experiment)
    except UserError:
        return False


def targets_of(clips: Sequence[Clip], classes: Sequence[str]) -> np.ndarray:
    """Targets float32 [n_clips, n_classes]: 1 for every label of a clip, primary and secondary."""
    column = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(clips), len(classes)), np.float32)
    for row, clip in enumerate(clips):
        for label in (*clip.labels, *clip.secondary):
            if label in column:
                targets[row, column[label]] = 1
    return targets


def _validation(model: keras.Model, experiment: schema.Experiment, parts: Partition) -> Validate:
    spec = experiment.frontend
    waveforms = Waveforms(parts.val, spec.sample_rate_hz)
    windows = [clip_windows(waveforms[i], spec.n_samples) for i in range(len(waveforms))]
    features = [network_input(log_mel(w, spec), spec) for w in windows]
    targets = targets_of(waveforms.clips, parts.classes)
    forward = lower(model)
    device = model.trainable_variables[0].value.device

    def validate() -> dict[str, float]:
        with torch.inference_mode():
            logits = [forward(torch.from_numpy(f).to(device)).float() for f in features]
        squash = torch.sigmoid if experiment.data.multi_label else torch.nn.Softmax(dim=1)
        scores = torch.stack([squash(one).mean(0).cpu() for one in logits]).numpy()
        score = macro_auroc(targets, scores).value
        right = float((scores.argmax(1) == targets.argmax(1)).mean())
        return {"val_macro_auroc": score, "val_accuracy": right}

    return validate


def _backgrounds(experiment: schema.Experiment) -> list[np.ndarray]:
    if not experiment.data.background or not experiment.augmentation.noise_p:
        return []
    waveforms = Waveforms(read_background(experiment.data).clips, experiment.frontend.sample_rate_hz)
    return [waveforms[i] for i in range(len(waveforms))]


def _check(experiment: schema.Experiment, parts: Partition) -> None:
    if not experiment.data.multi_label:
        several = [clip for clip in parts.train if len(clip.labels) != 1]
        if several:
            raise UserError(
                f"{len(several)} of {len(parts.train)} training clips have no label or more than one (the first: "
                f"{several[0].path}, {';'.join(several[0].labels) or 'none'}); set data.multi_label=true for those."
            )
    if len(parts.classes) < 2 and not experiment.data.multi_label:
        raise UserError(f"Two or more classes are needed to train. Received: {', '.join(parts.classes) or 'none'}")


def _save(output: Path, experiment: schema.Experiment, parts: Partition, fitted: Fitted) -> Run:
    with atomic_path(output / "history.csv") as part, open(part, "w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(name for row in fitted.history for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(fitted.history)
    return save_run(output, experiment, parts.classes, fitted.weights)
