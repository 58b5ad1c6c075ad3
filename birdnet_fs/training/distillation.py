"""Learning from a teacher beside the labels.

Sources: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network",
https://arxiv.org/abs/1503.02531: (1 - alpha) x the loss of the labels + alpha x T ** 2 x KL(teacher || student), both
softened by the temperature T; with any number of classes the same of each class' two outcomes. Beyer et al. 2022,
"Knowledge distillation: A good teacher is patient and consistent", https://arxiv.org/abs/2106.05237: the teacher hears
the very segment, augmented and mixed, that the student hears: with the same front-end the same features, masks and
all, else the waveform through its own (batches/augment/teacher_features.py).
Romero et al. 2015, "FitNets", https://arxiv.org/abs/1412.6550: the student's embedding, through a linear map that is
learned and then dropped, is drawn towards the teacher's. Furlanello et al. 2018, "Born-Again Neural Networks",
https://arxiv.org/abs/1805.04770: the teacher is the same experiment, trained before (trainer.py).

What several teachers, or one over several windows, believe is the mean of their probabilities, which the temperature
then softens. One teacher with one window softens its own logits, as in the paper.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import torch
import torch.nn.functional as F

from birdnet_fs import models, schema
from birdnet_fs.batches.augment.teacher_features import same_features
from birdnet_fs.core.progress import say
from birdnet_fs.inference.activations import tensor_mean_logits, tensor_to_logits
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.runs.run import Run
from birdnet_fs.training.losses import as_float32
from birdnet_fs.training.objective import Objective

Soft = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]  # (student's logits, teacher's, temperature) -> loss


def divergence(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T ** 2 x KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch.

    Args:
        logits: Of the student, [batch, n_classes].
        teacher: Logits of the teacher, or log probabilities, [batch, n_classes].
        temperature: T, above 0.
    """
    theirs = F.log_softmax(as_float32(teacher) / temperature, dim=1)
    ours = F.log_softmax(as_float32(logits) / temperature, dim=1)
    return temperature**2 * (theirs.exp() * (theirs - ours)).sum(dim=1).mean()


def binary_divergence(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T ** 2 x KL(sigmoid(teacher / T) || sigmoid(logits / T)) of each class alone, mean over classes and batch.

    Arguments as `divergence`; the teacher's are log odds.
    """
    theirs, ours = as_float32(teacher) / temperature, as_float32(logits) / temperature
    p = torch.sigmoid(theirs)
    there = p * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    absent = (1 - p) * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    return temperature**2 * (there + absent).mean()


class TeacherOutput(NamedTuple):
    """What a teacher says of a batch."""

    logits: torch.Tensor  # [batch, n_classes] in the student's order
    embeddings: tuple[torch.Tensor, ...] = ()  # of each teacher [batch, width]


class TeacherRun(NamedTuple):
    """One run that teaches."""

    forward: Any  # features -> logits, or with embeddings (logits, embedding)
    place: int | None  # of its features in what a batch holds for teachers; None = the student's own
    columns: torch.Tensor  # of its classes in the student's order


class Teacher:
    """Runs that hear every batch.

    Args:
        runs: One or more, all of the student's classes and kind of probability (`teachers.check`).
        experiment: The student's.
        classes: In the student's order.
        device: Where all of it runs.

    Attributes:
        frontends: Those through which the batches must be heard beside the student's.
    """

    def __init__(self, runs: Sequence[Run], experiment: schema.Experiment, classes: Sequence[str], device: str) -> None:
        self.activation = experiment.data.activation
        self.embeds = bool(experiment.distillation.features)
        self.frontends: list[schema.FrontEnd] = []
        self.widths: list[int] = []
        self.members = [self._member(run, experiment.frontend, classes, device) for run in runs]

    def _member(self, run: Run, spec: schema.FrontEnd, classes: Sequence[str], device: str) -> TeacherRun:
        with keras.device(device):
            model = run.build_model()
        network = models.with_outputs(model, ["logits", "embedding"] if self.embeds else ["logits"])
        if self.embeds:
            self.widths.append(int(network.outputs[1].shape[-1]))
        order = torch.tensor([run.classes.index(name) for name in classes], device=device)
        return TeacherRun(lower(network, fold=True), self._place(run, spec), order)

    def _place(self, run: Run, spec: schema.FrontEnd) -> int | None:
        own = run.frontend
        if same_features(own, spec):
            return None
        if own.sample_rate_hz > spec.sample_rate_hz:
            say(f"The teacher {run.path} hears nothing above {spec.sample_rate_hz / 2:g} Hz, the student's limit.")
        if own.segment_s > spec.segment_s:
            say(f"The teacher {run.path} hears {spec.segment_s:g} s again and again until its {own.segment_s:g} s end.")
        known = next((i for i, other in enumerate(self.frontends) if same_features(own, other)), None)
        if known is None:
            self.frontends.append(own)
        return len(self.frontends) - 1 if known is None else known

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> TeacherOutput:
        """What the teachers believe of a batch.

        Args:
            features: The student's [batch, n_frames, n_mels, n_channels].
            teacher_features: For each of `frontends` [batch, n_windows, ...].
        """
        logits, embeddings = [], []
        with torch.no_grad():
            for forward, place, columns in self.members:
                windows = features[:, None] if place is None else teacher_features[place]
                found = forward(windows.flatten(0, 1), training=False)
                answers = (found if self.embeds else (found,))[0].unflatten(0, windows.shape[:2])
                logits.append(tensor_mean_logits(answers.float()[..., columns], self.activation))
                if self.embeds:
                    embeddings.append(found[1].float().unflatten(0, windows.shape[:2]).mean(1))
            return TeacherOutput(tensor_mean_logits(torch.stack(logits, 1), self.activation), tuple(embeddings))


class SavedTeacher:
    """A table of probabilities in the place of runs; a batch holds those of its items."""

    frontends: Sequence[schema.FrontEnd] = ()
    widths: Sequence[int] = ()

    def __init__(self, activation: str) -> None:
        self.activation = activation

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> TeacherOutput:
        """What the batch holds, as logits."""
        return TeacherOutput(tensor_to_logits(teacher_features[-1], self.activation))


class DistillationLoss:
    """The parts of the loss that a teacher makes (objective.Lesson).

    Args:
        teacher: Who is asked.
        settings: Its `alpha`, `temperature`, `features` and `feature_distance`.
        width: Of the student's embedding, its last output where `settings.features` is set.
        device: Of the maps to the teachers' embeddings.
    """

    def __init__(
        self, teacher: Teacher | SavedTeacher, settings: schema.Distillation, *, width: int = 0, device: str = "cpu"
    ) -> None:
        self.forward, self.settings = teacher.forward, settings
        self._soft: Soft = binary_divergence if teacher.activation == "sigmoid" else divergence
        wanted = teacher.widths if settings.features else ()
        self.maps = [torch.nn.Linear(width, theirs, device=device) for theirs in wanted]
        self.parameters = tuple(p for one in self.maps for p in one.parameters())
        self._sums: dict[str, torch.Tensor] = {}
        self._n = 0

    def loss(self, labels: torch.Tensor, outputs: Any, teacher_output: TeacherOutput) -> torch.Tensor:
        """(1 - alpha) x `labels` + alpha x the divergence + `features` x the distance of the embeddings."""
        settings = self.settings
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        soft = self._soft(logits, teacher_output.logits, settings.temperature)
        parts = {"train_loss_labels": labels, "train_loss_teacher": soft}
        whole = (1 - settings.alpha) * labels + settings.alpha * soft
        if self.maps:
            pairs = zip(self.maps, teacher_output.embeddings, strict=True)
            distances = [self._distance(one(outputs[-1].float()), theirs) for one, theirs in pairs]
            parts["train_loss_features"] = torch.stack(distances).mean()
            whole = whole + settings.features * parts["train_loss_features"]
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._n += 1
        return whole

    def pop_means(self) -> dict[str, float]:
        """The means of the parts over the steps since the last call."""
        found = {name: float(total) / self._n for name, total in self._sums.items()}
        self._sums, self._n = {}, 0
        return found

    def _distance(self, ours: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
        if self.settings.feature_distance == "mse":
            return F.mse_loss(ours, theirs)
        return (1 - F.cosine_similarity(ours, theirs, dim=1)).mean()


def build_teacher(
    runs: Sequence[Run], experiment: schema.Experiment, classes: Sequence[str], device: str
) -> Teacher | SavedTeacher | None:
    """Who is asked in a training: runs, a table where the settings name one, or nobody. Arguments as `Teacher`."""
    if experiment.distillation.saved:
        return SavedTeacher(experiment.data.activation)
    return Teacher(runs, experiment, classes, device) if runs else None


def with_distillation(
    objective: Objective, model: keras.Model, teacher: Teacher | SavedTeacher, settings: schema.Distillation
) -> Objective:
    """The objective of labeled clips with a teacher's part.

    Args:
        objective: Of the labels.
        model: The student.
        teacher: Who is asked.
        settings: How much of it.
    """
    device = str(model.trainable_variables[0].value.device)
    if not settings.features:
        return dataclasses.replace(objective, distillation=DistillationLoss(teacher, settings, device=device))
    names = ["logits"] if objective.network is model else ["logits", "frame_logits"]  # as the labels' loss has them
    network = models.with_outputs(model, [*names, "embedding"])

    def loss(outputs: Any, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        rest: Any = outputs[0] if len(names) == 1 else list(outputs[:-1])
        return objective.loss(rest, targets, label_smoothing)

    width = int(network.outputs[-1].shape[-1])
    lesson = DistillationLoss(teacher, settings, width=width, device=device)
    return dataclasses.replace(objective, network=network, loss=loss, distillation=lesson)
