"""Knowledge distillation: training on the outputs of teachers besides the labels.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", https://arxiv.org/abs/1503.02531:
(1 - alpha) x loss of the labels + alpha x T ** 2 x KL(teacher || student), both softened by the temperature T; with any
number of classes per segment, the divergence of the two outcomes of each class.
Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent",
https://arxiv.org/abs/2106.05237: teacher and student get the same augmented and mixed segment. A teacher with the
front-end of the student gets the same features; others compute theirs from the augmented waveform
(batches/augment/teacher_features.py).
Romero et al. 2015, "FitNets", https://arxiv.org/abs/1412.6550: the embedding of the student approaches that of the
teacher through a learned linear map, which is dropped after the training.
Furlanello et al. 2018, "Born-Again Neural Networks", https://arxiv.org/abs/1805.04770: the teacher is an earlier run of
the same experiment (trainer.py).

The outputs of several teachers, or of several windows, are combined as the mean of their probabilities, which the
temperature then softens. The logits of one teacher with one window are softened directly, as in the paper.
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

Divergence = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]  # (logits, teacher, temperature) -> scalar


def divergence(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute T ** 2 x KL(softmax(teacher / T) || softmax(logits / T)), mean over the batch.

    Args:
        logits: float [batch, n_classes], those of the student.
        teacher: float [batch, n_classes], logits or log probabilities of the teacher.
        temperature: T, above 0.

    Returns:
        Scalar, 0 or more.
    """
    log_p = F.log_softmax(as_float32(teacher) / temperature, dim=1)
    log_q = F.log_softmax(as_float32(logits) / temperature, dim=1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()


def binary_divergence(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute T ** 2 x KL(sigmoid(teacher / T) || sigmoid(logits / T)) of each class, mean over classes and batch.

    Args:
        logits: float [batch, n_classes], those of the student.
        teacher: float [batch, n_classes], log odds of the teacher.
        temperature: T, above 0.

    Returns:
        Scalar, 0 or more.
    """
    x, y = as_float32(teacher) / temperature, as_float32(logits) / temperature
    p = torch.sigmoid(x)
    present = p * (F.logsigmoid(x) - F.logsigmoid(y))
    absent = (1 - p) * (F.logsigmoid(-x) - F.logsigmoid(-y))
    return temperature**2 * (present + absent).mean()


class TeacherOutput(NamedTuple):
    """Teacher outputs for one batch.

    Attributes:
        logits: float32 [batch, n_classes], classes in the order of the student.
        embeddings: float32 [batch, width] of each teacher; empty unless embeddings are distilled.
    """

    logits: torch.Tensor
    embeddings: tuple[torch.Tensor, ...] = ()


class TeacherRun(NamedTuple):
    """One run of a teacher.

    Attributes:
        forward: Network: features to logits, or to (logits, embedding).
        frontend_index: Index of its features among the teacher features of a batch; None: features of the student.
        columns: int [n_classes], columns of its logits in the order of the student's classes.
    """

    forward: Any
    frontend_index: int | None
    columns: torch.Tensor


class Teacher:
    """Runs whose combined outputs are distilled.

    Args:
        runs: One or more, with the classes and the activation of the student.
        experiment: Experiment of the student.
        classes: Names in the order of the student.
        device: Device of the networks.

    Attributes:
        frontends: Front-ends whose features a batch must hold besides those of the student.
        widths: Width of the embedding of each run; empty unless embeddings are distilled.
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
        return TeacherRun(lower(network, fold=True), self._frontend_index(run, spec), order)

    def _frontend_index(self, run: Run, spec: schema.FrontEnd) -> int | None:
        own = run.frontend
        if same_features(own, spec):
            return None
        if own.sample_rate_hz > spec.sample_rate_hz:
            say(
                f"The teacher {run.path} gets no frequencies above {spec.sample_rate_hz / 2:g} Hz, the student's limit."
            )
        if own.segment_s > spec.segment_s:
            say(f"Segments of {spec.segment_s:g} s are repeated to the {own.segment_s:g} s of the teacher {run.path}.")
        known = next((i for i, other in enumerate(self.frontends) if same_features(own, other)), None)
        if known is None:
            self.frontends.append(own)
        return len(self.frontends) - 1 if known is None else known

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> TeacherOutput:
        """Compute the combined outputs of the teachers for one batch.

        Args:
            features: float32 [batch, n_frames, n_mels, n_channels], those of the student.
            teacher_features: float32 [batch, n_windows, n_frames, n_mels, n_channels] for each of `frontends`.

        Returns:
            Logits and embeddings.
        """
        logits, embeddings = [], []
        with torch.no_grad():
            for forward, index, columns in self.members:
                windows = features[:, None] if index is None else teacher_features[index]
                outputs = forward(windows.flatten(0, 1), training=False)
                by_window = (outputs if self.embeds else (outputs,))[0].unflatten(0, windows.shape[:2])
                logits.append(tensor_mean_logits(by_window.float()[..., columns], self.activation))
                if self.embeds:
                    embeddings.append(outputs[1].float().unflatten(0, windows.shape[:2]).mean(1))
            return TeacherOutput(tensor_mean_logits(torch.stack(logits, 1), self.activation), tuple(embeddings))


class SavedTeacher:
    """Teacher whose outputs for the clips are known; a batch holds those of its segments.

    Args:
        activation: "softmax" or "sigmoid".
        widths: Widths of the embeddings that the batch holds side by side. Default: (), it holds none.
    """

    frontends: Sequence[schema.FrontEnd] = ()

    def __init__(self, activation: str, widths: Sequence[int] = ()) -> None:
        self.activation, self.widths = activation, widths

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> TeacherOutput:
        """Return the logits of the probabilities that the batch holds, and its embeddings.

        Args:
            features: [batch, n_frames, n_mels, n_channels]; not used.
            teacher_features: Probabilities float32 [batch, n_classes]; with `widths`, embeddings
                float32 [batch, sum of the widths] after them.

        Returns:
            Logits and embeddings.
        """
        if not self.widths:
            return TeacherOutput(tensor_to_logits(teacher_features[-1], self.activation))
        probabilities, embeddings = teacher_features[-2:]
        logits = tensor_to_logits(probabilities, self.activation)
        return TeacherOutput(logits, embeddings.split(list(self.widths), dim=1))


class DistillationLoss:
    """The part of the loss that a teacher adds (`objective.DistillationTerm`).

    Args:
        teacher: The teacher.
        settings: Uses `alpha`, `temperature`, `features` and `feature_distance`.
        width: Width of the student's embedding, its last output with `settings.features`. Default: 0 (no embedding).
        device: Device of the linear maps to the teachers' embeddings. Default: "cpu".
    """

    def __init__(
        self, teacher: Teacher | SavedTeacher, settings: schema.Distillation, *, width: int = 0, device: str = "cpu"
    ) -> None:
        self.forward, self.settings = teacher.forward, settings
        self._divergence: Divergence = binary_divergence if teacher.activation == "sigmoid" else divergence
        widths = teacher.widths if settings.features else ()
        self.maps = [torch.nn.Linear(width, teacher_width, device=device) for teacher_width in widths]
        self.parameters = tuple(p for linear in self.maps for p in linear.parameters())
        self._sums: dict[str, torch.Tensor] = {}
        self._n = 0

    def loss(self, labels: torch.Tensor, outputs: Any, teacher_output: TeacherOutput) -> torch.Tensor:
        """Compute (1 - alpha) x `labels` + alpha x divergence + `settings.features` x distance of the embeddings.

        Args:
            labels: Loss of the labels, a scalar.
            outputs: Outputs of the student: logits [batch, n_classes], or a list with logits first and the embedding
                [batch, width] last.
            teacher_output: Outputs of the teacher for the same batch.

        Returns:
            The whole loss, a scalar.
        """
        settings = self.settings
        logits = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        soft = self._divergence(logits, teacher_output.logits, settings.temperature)
        parts = {"train_loss_labels": labels, "train_loss_teacher": soft}
        total = (1 - settings.alpha) * labels + settings.alpha * soft
        if self.maps:
            pairs = zip(self.maps, teacher_output.embeddings, strict=True)
            distances = [self._distance(linear(outputs[-1].float()), embedding) for linear, embedding in pairs]
            parts["train_loss_features"] = torch.stack(distances).mean()
            total = total + settings.features * parts["train_loss_features"]
        for name, value in parts.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()
        self._n += 1
        return total

    def pop_means(self) -> dict[str, float]:
        """Return the means of the parts over the steps since the last call, and reset them."""
        means = {name: float(total) / self._n for name, total in self._sums.items()}
        self._sums, self._n = {}, 0
        return means

    def open_sums(self) -> tuple[dict[str, torch.Tensor], int]:
        """The sums of `pop_means`, scalars [] by column, and the number of their steps."""
        return self._sums, self._n

    def set_sums(self, sums: dict[str, torch.Tensor], n_steps: int) -> None:
        """Go on from the result of `open_sums`: scalars [] by column, and the number of their steps."""
        self._sums, self._n = sums, n_steps

    def _distance(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        if self.settings.feature_distance == "mse":
            return F.mse_loss(student, teacher)
        return (1 - F.cosine_similarity(student, teacher, dim=1)).mean()


def build_teacher(
    runs: Sequence[Run],
    experiment: schema.Experiment,
    classes: Sequence[str],
    device: str,
    *,
    by_clip: bool = False,
    widths: Sequence[int] = (),
) -> Teacher | SavedTeacher | None:
    """Build the teacher of a training.

    Args:
        runs: The teacher runs; may be empty.
        experiment: Experiment of the student.
        classes: Names in the order of the student.
        device: Device of the networks.
        by_clip: Whether probabilities of clips are given with the batches. Default: False.
        widths: Widths of the embeddings of clips that are given with the batches. Default: ().

    Returns:
        The runs as a teacher, the table of probabilities that the settings name, or None.
    """
    if experiment.distillation.saved or by_clip:
        return SavedTeacher(experiment.data.activation, widths)
    return Teacher(runs, experiment, classes, device) if runs else None


def with_distillation(
    objective: Objective, model: keras.Model, teacher: Teacher | SavedTeacher, settings: schema.Distillation
) -> Objective:
    """Add a teacher to the objective of labeled clips.

    Args:
        objective: Objective of the labels.
        model: The student.
        teacher: The teacher.
        settings: Settings of the distillation.

    Returns:
        The objective with both parts.
    """
    device = str(model.trainable_variables[0].value.device)
    if not settings.features:
        return dataclasses.replace(objective, distillation=DistillationLoss(teacher, settings, device=device))
    names = (
        ["logits"] if objective.network is model else ["logits", "frame_logits"]
    )  # the outputs that the loss of the labels needs
    network = models.with_outputs(model, [*names, "embedding"])

    def loss(outputs: Any, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        rest: Any = outputs[0] if len(names) == 1 else list(outputs[:-1])
        return objective.loss(rest, targets, label_smoothing)

    width = int(network.outputs[-1].shape[-1])
    distillation = DistillationLoss(teacher, settings, width=width, device=device)
    return dataclasses.replace(objective, network=network, loss=loss, distillation=distillation)
