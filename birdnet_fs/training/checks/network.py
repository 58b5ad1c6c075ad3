"""Check of a training of a network before anything is decoded: settings, labels, weights, teachers, tracking."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from birdnet_fs import models, schema
from birdnet_fs.batches.augment.teacher_features import same_features
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.partition import Partition, partition
from birdnet_fs.frontend.empty_bands import check_bands
from birdnet_fs.runs import inputs
from birdnet_fs.runs.resolve import resolved
from birdnet_fs.runs.run import Run
from birdnet_fs.runs.teachers import SavedProbabilities, resolve_teachers
from birdnet_fs.training import finetuning, prepare
from birdnet_fs.training.episodic.items import check_episodes
from birdnet_fs.training.loop import device_of
from birdnet_fs.training.on_encoders.teachers import ClipEmbeddings, ClipProbabilities, on_encoders
from birdnet_fs.training.tracking import tracker


@dataclass(frozen=True)
class CheckedTraining:
    """A training of a network that can begin.

    Attributes:
        experiment: The resolved settings.
        parts: The divided clips, without fingerprints and pseudo-labels.
        made_from: JSON object of the files that the training starts from, of `runs.inputs.training_inputs`.
        device: Name of the torch device.
        pretrained: Run folder or file with initial weights; None: random weights, or those of a pretraining to come.
        teachers: The teacher runs; none for a table, and when the experiment is its own teacher.
        saved: Probabilities of clips that replace the outputs of the teachers; None: the networks of the teachers.
        embedded: Embeddings of clips beside the probabilities; None: they are not learned, or are those of segments.
        n_parameters: Number of parameters of the network.
    """

    experiment: schema.Experiment
    parts: Partition
    made_from: Mapping[str, Any]
    device: str
    pretrained: Path | None
    teachers: tuple[Run, ...]
    saved: ClipProbabilities | SavedProbabilities | None
    embedded: ClipEmbeddings | None
    n_parameters: int


def check_network_training(experiment: schema.Experiment, *, pretrained: Path | None = None) -> CheckedTraining:
    """Check everything about a training that can be checked before a recording is decoded.

    UserErrors of the checks are passed on: of the settings, the labels and their division, the device, the libraries
    for tracking, the teachers, the initial weights and the network.

    Args:
        experiment: Settings without `model.encoder`; `debug=True` reduces them first.
        pretrained: Run folder or file with initial weights. Default: None, `model.weights`.

    Returns:
        The training.

    Raises:
        UserError: Features are kept, and the front-end of a teacher is not that of the experiment.
    """
    models.check_model(experiment.model)
    experiment = resolved(experiment)
    check_bands(experiment.frontend)
    parts = partition(experiment)
    made_from = inputs.training_inputs(experiment, parts)
    device = device_of(experiment.training.device)
    prepare.check_clips(experiment, parts)
    tracker.check_tracking(experiment.training)
    if experiment.episodes:
        check_episodes(parts, experiment.episodes, experiment.seed)
    runs, found = resolve_teachers(experiment, parts.classes)
    by_clip = on_encoders(runs)
    saved = ClipProbabilities(runs, parts.classes) if by_clip else found
    embedded = ClipEmbeddings(runs) if by_clip and experiment.distillation.features else None
    others = [] if by_clip else [run for run in runs if not same_features(run.frontend, experiment.frontend)]
    if others and (experiment.training.cache == "features" or experiment.data.spectrograms):
        raise UserError(
            "training.cache=features and data.spectrograms have features of the student's front-end, and the teacher "
            "has another one; set training.cache=waveforms and data.spectrograms= (nothing)."
        )
    if experiment.model.weights and pretrained is None:
        pretrained = Path(experiment.model.weights)
    model = prepare.build_initial_network(experiment, parts, device, pretrained)
    finetuning.freeze_blocks(model, experiment.training.finetuning.freeze_blocks)
    return CheckedTraining(
        experiment, parts, made_from, device, pretrained, runs, saved, embedded, model.count_params()
    )
