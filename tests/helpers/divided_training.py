"""Trainings whose batches may be divided among processes; torchrun starts this file, one process imports it.

Every function returns arrays by name, which must not depend on the number of processes.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import torch

from birdnet_fs import schema
from birdnet_fs.core import stopping
from birdnet_fs.core.distributed import group
from birdnet_fs.core.distributed.exchange import check_equal, from_main, gather_rows, part_of
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.heads.prototypes import PrototypeLogits
from birdnet_fs.schema import Loss, Optimizer, Schedule, Training
from birdnet_fs.training.distillation import SavedTeacher, TeacherOutput, with_distillation
from birdnet_fs.training.episodic.objective import episodic_objective
from birdnet_fs.training.loop import Interrupted, run_epochs
from birdnet_fs.training.objective import supervised_objective
from birdnet_fs.training.resume.state import ResumeState
from birdnet_fs.training.training_state import TrainingState

RNG = np.random.default_rng(3)
N, SIZE, N_CLASSES = 19, 7, 3  # batches of 7, 7 and 5 rows: parts of 3 and 4 or 2 and 3
X = RNG.normal(size=(N, 6, 4, 1))
LABEL = RNG.integers(0, N_CLASSES, N)
SINGLE = np.eye(N_CLASSES)[LABEL]
MULTI = RNG.integers(0, 2, (N, N_CLASSES)).astype(float)
MULTI[0:3, 1:] = -1  # unknown, all in the part of the first of two processes
CLASS_WEIGHTS = np.array([0.5, 1.0, 3.0])
Arrays = dict[str, np.ndarray]


class DividedBatches:
    """Batches of X; each process gets its part."""

    def __init__(self, targets: np.ndarray, dtype: str, size: int = SIZE, extra: np.ndarray | None = None) -> None:
        self.arrays = [X.astype(dtype), targets.astype(dtype), np.arange(N)]
        self.arrays += [] if extra is None else [extra.astype(dtype)]
        clip = {"onset_s": 0.0, "offset_s": None, "labels": ()}
        self.size, self.clips = size, [type("Clip", (), {"path": f"rec{i}.wav", **clip})() for i in range(N)]

    def __len__(self) -> int:
        return -(-N // self.size)

    def epoch(self, epoch: int, first: int = 0):
        for start in range(first * self.size, N, self.size):
            low, high = part_of(min(self.size, N - start))
            yield [torch.from_numpy(array[start + low : start + high].copy()) for array in self.arrays]


def network(dtype: str, dropout: float = 0.0, head: str = "") -> keras.Model:
    """Convolution, and BatchNormalization of maps, of frames and of vectors."""
    keras.utils.set_random_seed(0)
    torch.manual_seed(0)
    keras.config.set_dtype_policy(dtype)
    try:
        inputs = keras.Input((6, 4, 1), dtype=dtype)
        x = keras.layers.Conv2D(5, 3, padding="same", use_bias=False, name="conv")(inputs)
        x = keras.layers.BatchNormalization(name="bn")(x)
        x = keras.layers.ReLU(name="relu")(x)
        x = keras.layers.Reshape((6, 20), name="frames")(x)
        x = keras.layers.BatchNormalization(name="bn_of_frames", scale=False)(x)
        x = keras.layers.GlobalAveragePooling1D(name="embedding")(x)
        x = keras.layers.BatchNormalization(name="bn_of_vectors", center=False)(x)
        x = keras.layers.Dropout(dropout, name="dropout")(x)
        if head:
            return keras.Model(inputs, PrototypeLogits(N_CLASSES, "euclidean", 1.0, name="logits")(x))
        return keras.Model(inputs, keras.layers.Dense(N_CLASSES, name="logits")(x))
    finally:
        keras.config.set_dtype_policy("float32")


def training(optimizer: dict[str, Any], **settings: Any) -> Training:
    own = {"learning_rate": 0.05, "schedule": Schedule("constant", warmup_epochs=0), "epochs": 1, **settings}
    return Training(optimizer=Optimizer(**optimizer), **own)


class EmbeddingTeacher(SavedTeacher):
    """With an embedding, to which the student's is mapped by weights that only the loss has."""

    widths = (N_CLASSES,)

    def forward(self, features: torch.Tensor, teacher_features: Sequence[torch.Tensor]) -> TeacherOutput:
        return TeacherOutput(super().forward(features, teacher_features).logits, (teacher_features[-1],))


PLAIN = {"name": "sgd", "beta1": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}


def state_of(
    dtype: str, targets: np.ndarray, loss: dict[str, Any], optimizer: dict[str, Any], *, teacher: bool = False, **given
) -> TrainingState:
    model = network(dtype)
    settings = training(optimizer, loss=Loss(**loss))
    multi = targets is MULTI
    objective = supervised_objective(model, settings, multi_label=multi, class_weights=CLASS_WEIGHTS)
    extra = None
    if teacher:
        extra = np.random.default_rng(4).uniform(0.1, 0.9, (N, N_CLASSES))
        distilled = schema.Distillation(teacher="run", alpha=0.7, features=0.5)
        objective = with_distillation(objective, model, EmbeddingTeacher("softmax"), distilled)
    return TrainingState(model, DividedBatches(targets, dtype, extra=extra, **given), settings, objective)


ONE_STEP: dict[str, tuple[np.ndarray, dict[str, Any], dict[str, Any]]] = {
    "ce": (SINGLE, {"name": "ce", "label_smoothing": 0.1}, {}),
    "focal": (SINGLE, {"name": "focal"}, {}),
    "bce, unknown targets": (MULTI, {"name": "bce"}, {}),
    "asymmetric": (MULTI, {"name": "asymmetric"}, {}),
    "soft_auc": (MULTI, {"name": "soft_auc"}, {}),
    "distillation": (SINGLE, {"name": "ce"}, {"teacher": True}),
    "one row": (SINGLE, {"name": "ce"}, {"size": 1}),  # the part of the first process is empty
    "two rows": (SINGLE, {"name": "ce"}, {"size": 2}),
}


def one_step(name: str) -> Arrays:
    """Loss, gradients and moving statistics after one batch."""
    targets, loss, given = ONE_STEP[name]
    state = state_of(
        "float64", targets, loss, {"name": "sgd", "beta1": 0.0, "weight_decay": 0.0, "clip_norm": 0.0}, **given
    )
    step, _, batch = next(state.steps())
    value = state.step(step, batch)
    found = {f"gradient of {v.path}": v.value.grad.numpy() for v in state.model.trainable_variables}
    found |= {f"gradient {i}": p.grad.numpy() for i, p in enumerate(state.parameters[state.n_model_parameters :])}
    found |= {v.path: v.numpy().copy() for v in state.model.non_trainable_variables if "moving" in v.path}
    return {"loss": np.array(value), **found, "accuracy": state.accuracy.open_counts().numpy()}


def many_steps(dtype: str, optimizer: dict[str, Any], n_steps: int = 51) -> Arrays:
    """Losses and weights after many steps with accumulation, clipping and a moving average."""
    settings = training({"accumulate": 2, "clip_norm": 0.5, "ema": 0.9, **optimizer}, epochs=n_steps // 3)
    model = network(dtype)
    batches = DividedBatches(MULTI, dtype)
    trained = run_epochs(model, batches, settings, multi_label=True)
    return {"train_loss": np.array([row["train_loss"] for row in trained.history]), **trained.weights}


def episode() -> Arrays:
    """The gradient of an episode, whose loss is over pairs of rows."""
    settings = schema.Episodes(n_way=3, n_shot=1, n_query=1)
    model = network("float64", head="prototypes")
    objective = episodic_objective(model, settings)
    batches = DividedBatches(np.repeat(np.eye(N_CLASSES), 7, 0)[:N][np.argsort(np.arange(N) % 6)], "float64", size=6)
    batches.arrays[1][:6] = np.repeat(np.eye(N_CLASSES), 2, 0)
    state = TrainingState(model, batches, training(PLAIN), objective)
    step, _, batch = next(state.steps())
    value = state.step(step, batch)
    grads = {v.path: v.value.grad.numpy() for v in state.model.trainable_variables if v.value.grad is not None}
    return {"loss": np.array(value), **grads}


class StoppedBatches(DividedBatches):
    """A signal reaches the last process only, before a step."""

    def __init__(self, at: int) -> None:
        super().__init__(MULTI, "float32")
        self.at = at

    def epoch(self, epoch: int, first: int = 0):
        for i, batch in enumerate(super().epoch(epoch, first), first):
            if epoch * len(self) + i == self.at and group.rank() == group.size() - 1:
                stopping._State.received = 15
            yield batch


def resumed(folder: Path, at: int | None) -> Arrays:
    """Weights of a training with dropout, stopped before a step and continued; None: undisturbed."""
    settings = training({"accumulate": 2, "swa_epochs": 2}, epochs=4)

    def run(batches: DividedBatches) -> Arrays:
        model = network("float32", dropout=0.5)
        torch.manual_seed(5)
        state = ResumeState(folder, {"name": "divided"})
        return run_epochs(model, batches, settings, multi_label=True, resume=state).weights

    if at is not None:
        try:
            run(StoppedBatches(at))
        except Interrupted as error:
            assert at <= error.n_batches <= at + 1
        else:
            raise AssertionError("not stopped")
        stopping._State.received = 0
    return run(DividedBatches(MULTI, "float32"))


def dropout_draws() -> Arrays:
    """What each process draws for a step."""
    from birdnet_fs.training.distributed.step import seed_dropout

    seed_dropout(5, 3)
    first = torch.rand(4).numpy()
    seed_dropout(5, 3)
    return {"own": gather_rows(first[None]), "again": gather_rows(torch.rand(4).numpy()[None])}


def exchanged() -> Arrays:
    """Decisions of the main process, refusals and gathered rows."""
    value = from_main(lambda: [group.rank(), "é"])
    errors = []
    for action in (lambda: from_main(_refuse), lambda: check_equal({"list of clips": group.rank()})):
        try:
            action()
        except UserError as error:
            errors.append(str(error))
    rows = gather_rows(np.full((group.rank(), 2), group.rank(), np.float32))
    return {"value": np.array(value), "errors": np.array(errors), "rows": rows}


def _refuse() -> None:
    raise UserError("refused by the main process")


def validated() -> Arrays:
    """Metrics of the validation of an untrained network on clips that are divided."""
    from birdnet_fs.training.validation import supervised_validation

    size = {"n_fft": 256, "win_length": 256, "hop_length": 128, "n_mels": 16}
    spec = schema.FrontEnd(sample_rate_hz=8000, segment_s=0.5, fmax_hz=3900, **size)
    experiment = schema.Experiment("validated", frontend=spec)
    rng = np.random.default_rng(5)
    clips = [rng.normal(size=int(rng.integers(2000, 12000))).astype(np.float32) * 0.1 for _ in range(9)]
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, spec.n_mels, 1))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, strides=4)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(N_CLASSES, name="logits")(x))
    validate = supervised_validation(model, clips, SINGLE[:9].astype(np.float32), experiment, ("a", "b", "c"))
    return {name: np.array(value) for name, value in validate().items()}


CASES: dict[str, Callable[[Path], Arrays]] = {
    **{f"one step, {name}": (lambda _, name=name: one_step(name)) for name in ONE_STEP},
    "sgd": lambda _: many_steps("float64", {"name": "sgd"}),
    "adamw": lambda _: many_steps("float32", {"name": "adamw"}),
    "episode": lambda _: episode(),
    "validation": lambda _: validated(),
    "undisturbed": lambda folder: resumed(folder / "undisturbed", None),
    **{f"stopped at {at}": (lambda folder, at=at: resumed(folder / str(at), at)) for at in (1, 2, 6, 11)},
    "dropout": lambda _: dropout_draws(),
    "exchanged": lambda _: exchanged(),
}


def main(folder: Path) -> None:
    """Run all cases; the main process writes their arrays, and every process whether it has the same."""
    stopping.listen()
    group.join()
    group.connect()
    for number, case in enumerate(CASES.values()):
        found = case(folder)
        np.savez(folder / f"{number}-{group.rank()}.npz", **{key.replace("/", "|"): v for key, v in found.items()})
    group.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
