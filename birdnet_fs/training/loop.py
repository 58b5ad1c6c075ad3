"""The training loop: epochs with validation, early stopping and a choice of the weights to keep.

A loss or gradient that is not finite stops the training; the error names the recordings of the batch and carries the
weights of the last good epoch.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import keras
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import Batch, TrainingBatches
from birdnet_fs.core import stopping
from birdnet_fs.core.distributed import group
from birdnet_fs.core.distributed.exchange import check_equal, from_main
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.training.distributed.checks import own_gpu
from birdnet_fs.training.objective import Objective, supervised_objective
from birdnet_fs.training.resume.contents import EpochProgress
from birdnet_fs.training.resume.state import ResumeState
from birdnet_fs.training.training_state import TrainingState

SIGNAL_GRACE_S = 1.0  # a signal to a whole job may reach a process of the loader before this one
Validate = Callable[[], Row]
AfterEpoch = Callable[[list[Row], Weights], None]


class Interrupted(KeyboardInterrupt):
    """The user or a cluster stopped the training.

    Args:
        weights: Weights after the last finished batch, or of the best epoch with `checkpoints.select="best"`.
        history: Rows of all finished epochs.
        n_batches: Number of batches trained on; without any, the weights are the initial ones.
    """

    def __init__(self, weights: Weights, history: list[Row], n_batches: int = 0) -> None:
        super().__init__()
        self.weights, self.history, self.n_batches = weights, history, n_batches


class TrainingEndedError(UserError):
    """A process that prepares batches, or another one that trains the same network, has ended, or a GPU is full.

    Args:
        message: Sentence with the cause and the remedy.
        weights: Weights after the last finished batch, or of the best epoch with `checkpoints.select="best"`.
        history: Rows of all finished epochs.
        n_batches: Number of batches trained on.
    """

    def __init__(self, message: str, weights: Weights, history: list[Row], n_batches: int = 0) -> None:
        super().__init__(message)
        self.weights, self.history, self.n_batches = weights, history, n_batches


class DivergedError(UserError):
    """The loss, a gradient or a moving statistic is not finite.

    Args:
        message: Sentence with the quantity that is not finite, the epoch and the recordings.
        weights: Weights of the last good epoch, or of the best one with `checkpoints.select="best"`.
        history: Rows of the epochs before.
    """

    def __init__(self, message: str, weights: Weights, history: list[Row]) -> None:
        super().__init__(message)
        self.weights, self.history = weights, history


@dataclass
class TrainedWeights:
    """Result of a training.

    Attributes:
        weights: The weights to keep, by variable path.
        history: One row of metrics per epoch.
    """

    weights: Weights
    history: list[Row] = field(default_factory=list)


def device_of(choice: str) -> str:
    """Return the torch device for a value of `training.device`.

    Args:
        choice: "auto", "cpu" or "cuda"; "auto" selects a GPU when there is one.

    Returns:
        "cpu" or "cuda"; of several processes each has selected the GPU of its own number before.

    Raises:
        UserError: `choice` is "cuda" and torch finds no GPU, or there are fewer GPUs than processes.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("training.device=cuda needs a GPU that torch can use; none was found. Use training.device=cpu.")
    found = ("cuda" if torch.cuda.is_available() else "cpu") if choice == "auto" else choice
    if found == "cuda":
        own_gpu()
    return found


def run_epochs(
    model: keras.Model,
    batches: TrainingBatches,
    settings: schema.Training,
    *,
    multi_label: bool = False,
    objective: Objective | None = None,
    validate: Validate | None = None,
    after_epoch: AfterEpoch | None = None,
    undefined_because: str = "",
    resume: ResumeState | None = None,
) -> TrainedWeights:
    """Train `model` in place and return the weights to keep.

    Every row of the history has epoch, train_loss, learning_rate (of the last step), the columns of `validate`, seconds
    (since the start) and, on a GPU, gpu_peak_gb. With `objective.predictions` it has train_acc (fraction of correct
    rows, as augmented), with `objective.classes` the accuracy of each class, and with `objective.distillation` the
    parts of the loss.

    Args:
        model: The network, on the device to train on.
        batches: Training data.
        settings: Settings of the training.
        multi_label: Whether `settings.loss.name="auto"` means sigmoid instead of softmax cross-entropy. Not used with
            `objective`. Default: False.
        objective: Network, loss and monitored metric. None: the loss of `settings` on the logits, monitored by
            `val_macro_auroc`.
        validate: Returns metrics on validation data for the present weights. The monitored one chooses the weights with
            `settings.checkpoints.select="best"`, and ends the training after `settings.checkpoints.patience` epochs
            without improvement. None: no validation.
        after_epoch: Called with the rows of all finished epochs and the present weights, which the model holds during
            the call. None: nothing is called.
        undefined_because: Reason for an undefined monitored metric, "" = none is known. It is printed once, in the
            first epoch without a value; such an epoch neither counts for `patience` or the plateau schedule nor is
            ranked. Default: "".
        resume: State on disk: an earlier one is gone on from, and it is written now and then and when the training is
            stopped. None: none.

    Returns:
        The weights to keep and the history.

    Raises:
        UserError: The state is damaged or of another training.
        DivergedError: The loss, a gradient or a moving statistic is NaN or infinite.
        Interrupted: The user or a signal stopped the training, at the end of a batch.
        TrainingEndedError: A process that prepares batches was killed, one of several that train together has ended, or
            a batch does not fit into the memory of the GPU.
    """
    group.connect()
    if objective is None:
        objective = supervised_objective(model, settings, multi_label=multi_label)
    state = TrainingState(model, batches, settings, objective)
    progress = (resume.load(state) if resume else None) or EpochProgress()
    loop = _Loop(state, progress, validate, after_epoch, objective.monitor, undefined_because, resume)
    if group.size() > 1:
        check_equal({"number of batches": len(batches), "list of clips": _digest(batches), "last step": state.n_steps})
    began_with = state.n_steps
    if began_with:
        say(
            f"Training goes on after {began_with} of {settings.epochs * len(batches)} steps "
            f"({len(progress.history)} epochs), from the state in {escaped(resume.folder if resume else '')}."
        )
    try:
        with group.signals_held():
            loop.run()
        if settings.optimizer.swa_epochs:
            if resume:  # the pass below changes the averages, so that a state in the middle of it would not be exact
                resume.save(state, loop.timed())
                resume = None
            state.update_statistics()
    except KeyboardInterrupt:
        loop.save_if_exact(resume, began_with)
        raise Interrupted(progress.kept or state.latest(), progress.history, state.n_steps) from None
    except group.ProcessLostError as error:
        in_step = state.in_step
        state.undo_step()
        loop.save_if_exact(resume, began_with)
        given = (progress.kept or state.latest(), progress.history, state.n_steps)
        if stopping.received() and not in_step:  # the other one has received the signal as well, and left before
            raise Interrupted(*given) from None
        raise TrainingEndedError(str(error), *given) from None
    except torch.OutOfMemoryError as error:  # in the middle of a step: an earlier state on disk stays as it is
        message = f"{_out_of_memory(settings)} ({str(error).partition('. ')[0]})."
        raise TrainingEndedError(message, progress.kept or state.latest(), progress.history, state.n_steps) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        loop.save_if_exact(resume, began_with)
        given = (progress.kept or state.latest(), progress.history, state.n_steps)
        if stopping.received(SIGNAL_GRACE_S):  # one that was sent to all processes of the job
            raise Interrupted(*given) from None
        raise TrainingEndedError(
            "A process that prepares batches was killed, often for lack of memory; use fewer training.workers (0: none)"
            " or a smaller training.batch_size.",
            *given,
        ) from None
    return TrainedWeights(progress.kept or state.last_good, progress.history)


def _out_of_memory(settings: schema.Training) -> str:
    """Settings to change where a batch does not fit into the memory of the GPU, as a sentence without a full stop."""
    half = max(1, settings.batch_size // 2)
    ways = [f"training.batch_size={half} with training.optimizer.accumulate={2 * settings.optimizer.accumulate}"]
    if not settings.gradient_checkpointing:
        ways.insert(0, "training.gradient_checkpointing=true (the same command then goes on from its last state)")
    if settings.precision == "float32":
        ways.append("training.precision=auto")
    return (
        f"A batch of {settings.batch_size} segments does not fit into the memory of the GPU; set {', or '.join(ways)}"
    )


def _digest(batches: TrainingBatches) -> str:
    """Hash of the clips of the batches."""
    found = hashlib.sha256()
    for clip in batches.clips:
        found.update(f"{clip.path}\0{clip.onset_s}\0{clip.offset_s}\0{clip.labels}\0".encode(errors="surrogatepass"))
    return found.hexdigest()[:16]


@dataclass
class _Loop:
    """The loop over epochs.

    Attributes:
        state: State of the network and its optimizer.
        progress: Place in the epochs, the history, and the weights of the epoch with the largest `monitor`.
        validate: Returns metrics on validation data for the present weights; None: no validation.
        after_epoch: Called with the rows of all finished epochs and the present weights; None: nothing is called.
        monitor: History column that ranks the epochs; larger is better.
        undefined_because: Reason for an undefined monitored metric; "" = none is known.
        resume: State on disk, loaded and written; None: none.
        started: Time when this process began.
    """

    state: TrainingState
    progress: EpochProgress
    validate: Validate | None
    after_epoch: AfterEpoch | None
    monitor: str
    undefined_because: str
    resume: ResumeState | None
    started: float = field(default_factory=time.monotonic)

    def run(self) -> None:
        """Run all epochs that are left."""
        state, n_batches = self.state, len(self.state.batches)
        if self.progress.open_row is not None:  # stopped between the last step of an epoch and its validation
            self._finish(state.n_steps // n_batches - 1, ())
        if len(self.progress.history) >= state.n_epochs:
            return
        for step, epoch, batch in state.steps():
            try:
                with stopping.finished_first():
                    state.losses.append(state.step(step, batch))
                    state.n_steps = step + 1
                    if (step + 1) % n_batches == 0:
                        state.finish_epoch(epoch)
                        row = {"epoch": epoch + 1, **state.pop_metrics(), "learning_rate": state.rate}
                        self.progress.open_row = row
            except FloatingPointError as error:
                raise self._diverged(error, epoch, batch) from None
            if (step + 1) % n_batches:
                if self.resume and not state.in_accumulation:
                    self.resume.maybe_save(state, self.timed())
                continue
            self._finish(epoch, batch)
            if epoch + 1 == state.n_epochs:
                return
            if self.resume:
                self.resume.maybe_save(state, self.timed())

    def timed(self) -> EpochProgress:
        """The progress with the time spent so far."""
        return replace(self.progress, seconds=self.progress.seconds + time.monotonic() - self.started)

    def save_if_exact(self, resume: ResumeState | None, began_with: int) -> None:
        """Save the state of a training that ends before its time, if it has done a step."""
        if group.size() > 1 and self.state.in_accumulation:
            return  # a process has the gradients of its own rows only
        if resume and self.state.n_steps > began_with:
            with stopping.finished_first():
                failure = resume.save(self.state, self.timed())
            written = f"The state after {self.state.n_steps} steps is in {escaped(resume.folder)}."
            say(f"{failure or written} The same command {resume.next_start()}.")

    def _diverged(self, error: FloatingPointError, epoch: int, batch: Batch) -> DivergedError:
        message = self.state.diverged_message(str(error), epoch, batch)
        return DivergedError(message, self.progress.kept or self.state.last_good, self.progress.history)

    def _finish(self, epoch: int, batch: Batch) -> None:
        """Validate after the last step of an epoch, and append its row to the history."""
        state, progress = self.state, self.progress
        settings, row = state.settings, dict(progress.open_row or {})
        try:
            if self.validate is not None:
                with state.averaged():
                    found = self.validate()
                row |= from_main(lambda: found)  # early stopping and the best epoch are those of all processes
        except FloatingPointError as error:
            raise self._diverged(error, epoch, batch) from None
        with stopping.finished_first():
            self._append(epoch, row)
            if (epoch + 1) % max(1, settings.epochs // 10) == 0:
                shown = [f"{name} {value:.4g}" for name, value in row.items() if name != "epoch" and "/" not in name]
                say(f"epoch {epoch + 1}/{settings.epochs}: {', '.join(shown)}")
            if self.after_epoch is not None:
                with state.averaged():
                    self.after_epoch(progress.history, state.last_good)
            patience = settings.checkpoints.patience
            if patience and progress.n_waited >= patience and not progress.stopped:
                progress.stopped = True
                state.stop_early(epoch)
                say(
                    f"{self.monitor} did not improve for {patience} epochs "
                    f"(training.checkpoints.patience); {_end(state.n_epochs - epoch - 1)}."
                )

    def _append(self, epoch: int, row: Row) -> None:
        """Add the row of an epoch, and keep its weights if they are the best."""
        state, progress, settings = self.state, self.progress, self.state.settings
        state.last_good = state.averaged_weights()
        row |= pop_gpu_peak(state.device)
        row["seconds"] = round(progress.seconds + time.monotonic() - self.started, 3)
        progress.history.append(row)
        progress.open_row = None
        if self.validate is None:
            return
        if math.isnan(row[self.monitor]):  # an undefined metric is neither better nor worse
            progress.n_undefined += 1
            if progress.n_undefined == 1:
                say(_undefined(self.monitor, epoch, self.undefined_because, settings))
            return
        progress.n_waited += 1
        if settings.schedule.name == "plateau":
            state.plateau.update(row[self.monitor])
        if row[self.monitor] > progress.best:
            progress.best, progress.n_waited = row[self.monitor], 0
            if settings.checkpoints.select == "best":
                progress.kept = state.last_good


def pop_gpu_peak(device: torch.device) -> Row:
    """Return the most memory that torch held on a GPU since the last call, for history.csv, and start anew.

    Args:
        device: Device of the training.

    Returns:
        `gpu_peak_gb`, in 1e9 bytes; no column on a CPU.
    """
    if device.type != "cuda":
        return {}
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return {"gpu_peak_gb": round(peak / 1e9, 3)}


def _end(n_left: int) -> str:
    if not n_left:
        return "training stops"
    return f"training stops after {n_left} more epochs, whose weights are averaged (training.optimizer.swa_epochs)"


def _undefined(monitor: str, epoch: int, because: str, settings: schema.Training) -> str:
    """A sentence on a monitored metric without a value and on the settings that have no effect by it."""
    chosen = settings.checkpoints
    idle = [
        *(["training.checkpoints.select=best"] if chosen.select == "best" else []),
        *(["training.checkpoints.patience"] if chosen.patience else []),
        *(["training.checkpoints.n_best"] if chosen.n_best else []),
        *(["training.schedule=plateau"] if settings.schedule.name == "plateau" else []),
    ]
    effect = f"; an epoch without it does not count for {', '.join(idle)}" if idle else ""
    last = " (if no epoch has a value, the weights of the last epoch are kept)" if chosen.select == "best" else ""
    return f"{monitor} is undefined in epoch {epoch + 1}{f': {because}' if because else ''}{effect}{last}."
