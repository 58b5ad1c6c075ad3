"""State of a training (network, optimizer, loss scaling, weight averages), and one optimizer step.

Weights are float32 whatever the precision of the arithmetic. Weight decay (Loshchilov & Hutter 2019,
https://arxiv.org/abs/1711.05101) acts on kernels only, not on biases and normalization weights. Gradients are clipped
by their global norm. The exponential moving average of the weights follows Polyak and Juditsky 1992, the average of the
last epochs Izmailov et al. 2018, https://arxiv.org/abs/1803.05407.
"""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import Batch, TrainingBatches
from birdnet_fs.core import stopping
from birdnet_fs.core.distributed.exchange import gather_rows, roll_call
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import track
from birdnet_fs.models.lowering.lower import Lowered, lower
from birdnet_fs.models.lowering.recompute import Recomputed
from birdnet_fs.models.quantization.convert import is_quantized
from birdnet_fs.runs.history import Row, Weights
from birdnet_fs.runs.run import model_weights
from birdnet_fs.training import finetuning, optimizer
from birdnet_fs.training.distributed.checks import check_network
from birdnet_fs.training.distributed.step import gathered, seed_dropout, share_weights, sum_gradients
from birdnet_fs.training.objective import AccuracyCounter, Objective
from birdnet_fs.training.qat import RangeSchedule
from birdnet_fs.training.schedule import Plateau, learning_rate

MAX_SKIPPED_STEPS = 50  # consecutive float16 steps; the scale halves each time, 2 ** -50 is below any useful gradient
MIN_STATISTICS_BATCHES = 50  # after so many, 0.9 ** 50 = 0.5 % of the old moving statistics is left
MAX_NAMED_RECORDINGS = 8  # in an error message


class TrainingState:
    """Network, optimizer and averages of a training.

    Args:
        model: The network, trained in place.
        batches: Training data.
        settings: Settings of the training.
        objective: Network, loss and monitored metric of the training.

    Attributes:
        n_steps: Number of finished steps; a state that is loaded begins with those of earlier processes.
        n_model_parameters: Number of trained tensors of the network; those of the objective follow in `parameters`.
        last_good: Weights by variable path after the last epoch in which everything was finite.
        losses: Losses of the steps since the last call of `pop_metrics`.
        plateau: Factor of the learning rate that depends on the validation.
        rate: Learning rate of the last step.
        seed: Seed of torch's generators at the beginning.
        in_step: Whether a step of several processes has begun and not ended.
        n_epochs: Number of epochs that are trained; `settings.epochs`, or fewer after `stop_early`.
    """

    def __init__(
        self, model: keras.Model, batches: TrainingBatches, settings: schema.Training, objective: Objective
    ) -> None:
        self.model, self.batches, self.settings = model, batches, settings
        self.objective = objective
        finetuning.freeze_blocks(model, settings.finetuning.freeze_blocks)
        self.forward = self._lowered()
        check_network(self.forward, quantized=is_quantized(model))
        self.parameters = self._parameters()
        share_weights([*(v.value for v in model.weights), *self.parameters[self.n_model_parameters :]])
        self.seed, self.in_step = torch.initial_seed(), False
        self.device = self.parameters[0].device
        self.optimizer = optimizer.build_optimizer(self._groups(), settings)
        self.plateau = Plateau(settings.schedule.plateau_factor, settings.schedule.plateau_patience)
        self.ranges = RangeSchedule(model, settings.epochs) if is_quantized(model) else None
        self.dtype = torch.float32 if self.ranges else optimizer.arithmetic_type(settings.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        self.average = [v.value.detach().clone() for v in _state(model)] if settings.optimizer.ema else []
        self.swa = optimizer.WeightAverage()
        self.n_epochs = settings.epochs
        self.statistics = [v.value.detach() for v in _state(model) if not v.trainable]
        self.skipped = self.n_steps = 0
        self.last_good = self.averaged_weights()
        self.losses: list[float] = []
        self.accuracy = AccuracyCounter()
        self.rate = 0.0

    def _lowered(self) -> Lowered:
        lowered = lower(self.objective.network)
        if not self.settings.gradient_checkpointing:
            return lowered
        if lowered.fallback:
            raise UserError(
                "training.gradient_checkpointing divides a network into parts, and this one runs as a whole in Keras "
                f"({lowered.fallback}); set training.gradient_checkpointing=false and a smaller training.batch_size."
            )
        return Recomputed(lowered)

    def _parameters(self) -> list[Any]:
        own = self.objective.distillation.parameters if self.objective.distillation else ()
        trained = [v.value for v in self.model.trainable_variables]
        self.n_model_parameters = len(trained)
        return [*trained, *own]

    @property
    def in_accumulation(self) -> bool:
        """Whether gradients of finished steps wait for the next update."""
        place, every = self.n_steps % len(self.batches), self.settings.optimizer.accumulate
        return place % every != 0

    def _groups(self) -> list[dict[str, Any]]:
        settings = self.settings
        found = finetuning.parameter_groups(
            self.model, weight_decay=settings.optimizer.weight_decay, layer_decay=settings.finetuning.layer_decay
        )
        if self.objective.distillation and self.objective.distillation.parameters:
            own = list(self.objective.distillation.parameters)
            found.append({"params": own, "weight_decay": settings.optimizer.weight_decay, "factor": 1.0})
        return found

    def _unfreeze(self) -> None:
        """Train the frozen blocks from now on; the optimizer state of the other weights is kept."""
        known = {id(p) for p in self.parameters}
        finetuning.unfreeze(self.model)
        self.forward = self._lowered()
        self.parameters = self._parameters()
        for group in self._groups():
            group["params"] = [p for p in group["params"] if id(p) not in known]
            if group["params"]:
                self.optimizer.add_param_group(group)

    def unfreeze_as_after(self, n_epochs: int) -> None:
        """Unfreeze the blocks if a training has done so after this number of epochs, before its state is loaded."""
        at = self.settings.finetuning.unfreeze_epoch
        if 0 < at <= n_epochs and at < self.settings.epochs:
            self._unfreeze()

    def finish_epoch(self, epoch: int) -> None:
        """Check the moving statistics, update the average of the last epochs, and unfreeze blocks at their epoch.

        Args:
            epoch: Index of the finished epoch, from 0.

        Raises:
            FloatingPointError: A moving statistic is not finite.
        """
        self._check_statistics()
        if epoch >= self.n_epochs - self.settings.optimizer.swa_epochs:
            self.swa.update([v.value for v in _state(self.model)])
            self.average = self.swa.tensors
        if epoch + 1 == self.settings.finetuning.unfreeze_epoch < self.settings.epochs:
            self._unfreeze()

    def stop_early(self, epoch: int) -> None:
        """End the training after this epoch; with SWA, after the epochs that its average still lacks.

        Args:
            epoch: Index of the finished epoch, from 0.
        """
        n_averaged = self.settings.optimizer.swa_epochs
        if epoch < self.n_epochs - n_averaged:  # the average has not begun
            self.n_epochs = epoch + 1 + n_averaged

    def update_statistics(self) -> None:
        """Recompute the statistics of BatchNorm under the averaged weights by a pass over the training data (SWA)."""
        seed_dropout(self.seed, self.n_steps)
        with self.averaged(), torch.no_grad():
            n_passes = -(-MIN_STATISTICS_BATCHES // len(self.batches))
            for epoch in range(self.settings.epochs, self.settings.epochs + n_passes):
                for features, *_ in self.batches.epoch(epoch):
                    self.forward(features.to(self.device), training=True)
            self.last_good = model_weights(self.model)

    def steps(self) -> Iterator[tuple[int, int, Batch]]:
        """Iterate over the steps of the training that are not finished.

        Yields:
            Index of the step and of its epoch, both from 0, and the batch.
        """
        n_batches = len(self.batches)
        done, place = divmod(self.n_steps, n_batches)
        every = (
            (epoch * n_batches + i, epoch, batch)
            for epoch in range(done, self.settings.epochs)
            for first in (place if epoch == done else 0,)
            for i, batch in enumerate(self.batches.epoch(epoch, first), first)
        )
        if self.ranges and not self.n_steps:
            self.ranges.calibrate(self.forward, self.batches, self.device)
        yield from track(every, "training", total=self.settings.epochs * n_batches - self.n_steps, unit="step")

    def step(self, step: int, batch: Batch) -> float:
        """Run one step: forward, loss, gradients and, unless gradients are still accumulated, an update of the weights.

        Args:
            step: Index of the step, from 0.
            batch: Features, targets, indices of clips and, for teachers, further features.

        Returns:
            The loss of the whole batch, also where several processes have a part of it each.

        Raises:
            FloatingPointError: The loss or a gradient is not finite.
            Stopped: A signal has stopped several processes that train together; nothing has been computed.
        """
        n_rows = roll_call(step, len(batch[0]), may_stop=not self.in_accumulation)
        if len(n_rows) > 1:
            self._mark()
        seed_dropout(self.seed, step)
        if self.ranges:
            self.ranges.step(step // len(self.batches))
        features, targets, _, *teacher_features = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        distillation = self.objective.distillation
        n_batches = len(self.batches)
        self.rate = learning_rate(
            step,
            peak=self.settings.highest_learning_rate,
            n_steps=self.settings.epochs * n_batches,
            n_warmup=round(self.settings.schedule.warmup_epochs * n_batches),
            schedule=self.settings.schedule.name,
            minimum=self.settings.schedule.min_learning_rate,
            n_steps_per_drop=self.settings.schedule.step_epochs * n_batches,
            factor=self.settings.schedule.step_factor,
            div=self.settings.schedule.div,
            final_div=self.settings.schedule.final_div,
        )
        self.rate *= self.plateau.scale
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * group["factor"]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            outputs = self.forward(features, training=True)
            teacher_output = distillation.forward(features, teacher_features) if distillation else None
        outputs, targets, teacher_output = gathered((outputs, targets, teacher_output), n_rows)
        loss = self.objective.loss(outputs, targets, self.settings.loss.label_smoothing)
        if distillation:
            loss = distillation.loss(loss, outputs, teacher_output)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError("The loss")
        if self.objective.predictions is not None:
            with torch.no_grad():
                self.accuracy.add(*self.objective.predictions(outputs, targets))
        place, n_added = step % n_batches, self.settings.optimizer.accumulate
        if place % n_added == 0:
            self.optimizer.zero_grad(set_to_none=True)
        n_added = min(n_added, n_batches - place // n_added * n_added)  # fewer at the end of an epoch
        self.scaler.scale(loss / (n_added * len(n_rows))).backward()
        if (place + 1) % self.settings.optimizer.accumulate and place + 1 < n_batches:
            self.in_step = False
            return value
        sum_gradients(self.parameters)
        self.in_step = False  # what follows needs no other process
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.optimizer.clip_norm or math.inf)
        finite = bool(torch.isfinite(norm))
        self.skipped = 0 if finite else self.skipped + 1
        # loss scaling finds its scale by skipping steps that overflow; without it an overflow is an error
        if not finite and (not self.scaler.is_enabled() or self.skipped > MAX_SKIPPED_STEPS):
            raise FloatingPointError("The gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.settings.optimizer.ema and finite:
            # a shorter time constant in the first steps, so that the random initial weights do not dominate
            decay = min(self.settings.optimizer.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, [v.value.detach() for v in _state(self.model)], 1 - decay)
        return value

    def _mark(self) -> None:
        """Begin a step of several processes, which `undo_step` can take back until the weights change."""
        sums, n_sums = self.objective.distillation.open_sums() if self.objective.distillation else ({}, 0)
        moving = [v.value.detach() for v in self.model.non_trainable_variables if "moving_" in v.path]
        self._before = moving, [tensor.clone() for tensor in moving], self.accuracy.open_counts(), (dict(sums), n_sums)
        self.in_step = True

    def undo_step(self) -> None:
        """Go back to the state before a step in which another process has ended; nothing outside of a step."""
        if not self.in_step:
            return
        moving, values, counts, sums = self._before
        with torch.no_grad():
            for tensor, value in zip(moving, values, strict=True):
                tensor.copy_(value)
        self.accuracy.set_counts(counts)
        if self.objective.distillation:
            self.objective.distillation.set_sums(*sums)
        self.in_step = False

    def pop_metrics(self) -> Row:
        """Return the mean loss and the accuracies of the steps since the last call, and reset them."""
        parts = self.objective.distillation.pop_means() if self.objective.distillation else {}
        found = {"train_loss": float(np.mean(self.losses)), **parts, **self.accuracy.pop_means(self.objective.classes)}
        self.losses.clear()
        return found

    def _check_statistics(self) -> None:
        """Raise when a moving statistic of BatchNorm is not finite.

        It can overflow while the loss, which does not depend on it in training, stays finite.
        """
        if not all(bool(torch.isfinite(tensor).all()) for tensor in self.statistics):
            raise FloatingPointError("A moving statistic")

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model hold the averaged weights during a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        if self.average:
            with stopping.finished_first(), torch.no_grad():
                for variable, average in zip(_state(self.model), self.average, strict=True):
                    own = variable.value.detach().clone()
                    variable.value.copy_(average)
                    average.copy_(own)

    def averaged_weights(self) -> Weights:
        """Copy the weights to keep, by variable path: the average when there is one, else the present weights."""
        with self.averaged():
            return model_weights(self.model)

    def latest(self) -> Weights:
        """The weights after the last step; those of the last good epoch where that is over or they are not finite."""
        if self.n_steps % len(self.batches) == 0:
            return self.last_good
        found = self.averaged_weights()
        return found if all(np.isfinite(value).all() for value in found.values()) else self.last_good

    def diverged_message(self, what: str, epoch: int, batch: Batch) -> str:
        """Write the message of a training that is stopped because a value is not finite.

        Args:
            what: Name of the value, at the beginning of the sentence.
            epoch: Index of the epoch, from 0.
            batch: The batch of the last step, whose recordings are named; () when it is not known.

        Returns:
            The message, with what to change.
        """
        indices = gather_rows(batch[2].numpy()) if len(batch) else ()
        paths = sorted({str(self.batches.clips[int(i)].path) for i in indices})
        more = f" and {len(paths) - MAX_NAMED_RECORDINGS} more" if len(paths) > MAX_NAMED_RECORDINGS else ""
        return (
            f"{what} became NaN or infinite in epoch {epoch + 1}; training stopped and the last good weights were "
            f"kept. Lower training.learning_rate (now {self.settings.learning_rate:g}) or look at the recordings of "
            f"that batch: {', '.join(paths[:MAX_NAMED_RECORDINGS])}{more}"
        )


def _state(model: keras.Model) -> list[Any]:
    return [v for v in model.weights if "seed_generator" not in v.path]
