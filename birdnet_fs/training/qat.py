"""Quantization-aware training (8 bits) of a float run: its experiment, and the phases of the quantization ranges.

Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.1 (ranges as moving averages); Krishnamoorthi 2018,
https://arxiv.org/abs/1806.08342 (start from a float network). Unlike there, ranges are calibrated before the first
step, and are fixed in the last epochs, so that the weights adapt to the ranges of the exported network. The target is
the output of the float run (Polino et al. 2018, "Model Compression via Distillation and Quantization",
https://arxiv.org/abs/1802.05668): training on labels would make another classifier instead of a smaller one.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.quantization.convert import set_phase
from birdnet_fs.models.quantization.fake_quant import FIXED, LEARN, MEASURE, FakeQuantize
from birdnet_fs.runs.run import Run

# settings of each group that are those of the float run; the others have their defaults
KEPT = {
    "optimizer": ("weight_decay", "accumulate", "clip_norm"),
    "schedule": ("step_epochs", "step_factor", "plateau_factor", "plateau_patience"),
    "finetuning": (),
    "checkpoints": ("select",),
}
EPOCHS, LEARNING_RATE = 5, 5e-5
N_CALIBRATION_BATCHES = 16  # a range is the mean of the extremes of these batches
FIXED_SHARE = 1 / 3  # fraction of the epochs, at the end, with fixed ranges; at least one epoch


def qat_experiment(run: Run) -> schema.Experiment:
    """Make the experiment that fine-tunes a float run in 8 bits.

    It has the settings and clips of the float run, starts from its weights, has few epochs at a low rate, and the float
    run is its teacher.

    Args:
        run: The float run, of a quantizable network.

    Returns:
        The experiment, named like that of the run with "_int8".

    Raises:
        UserError: The run is quantized already.
    """
    base = run.experiment
    if base.model.quantized:
        raise UserError(f"{run.path} is quantized already; export it with birdnet-fs export {run.path}.")
    groups: dict[str, Any] = {}
    for name, kept in KEPT.items():
        group = getattr(base.training, name)
        groups[name] = type(group)(**{setting: getattr(group, setting) for setting in kept})
    groups["schedule"] = dataclasses.replace(groups["schedule"], warmup_epochs=0.0)
    training = dataclasses.replace(
        base.training, **groups, epochs=EPOCHS, learning_rate=LEARNING_RATE, precision="float32"
    )
    return dataclasses.replace(
        base,
        name=f"{base.name}_int8",
        model=dataclasses.replace(base.model, weights=str(run.path), quantized=True),
        training=training,
        distillation=schema.Distillation(teacher=str(run.path), alpha=1.0),
        pretrain=None,
        debug=False,
    )


class RangeSchedule:
    """Phases of the quantization ranges of a network: calibrated, then following the data, then fixed.

    Args:
        model: A network with fake quantization.
        epochs: Number of epochs of the training, 1 or more.
    """

    def __init__(self, model: keras.Model, epochs: int) -> None:
        self.model = model
        self.n_learn = epochs - max(1, round(FIXED_SHARE * epochs))  # epochs with ranges that follow the data

    def calibrate(self, forward: Any, batches: TrainingBatches, device: torch.device) -> None:
        """Set the ranges from training batches, without dropout and without a change of the weights.

        Args:
            forward: The lowered network.
            batches: Training data; the first batches of epoch 0 are used, at most one epoch.
            device: Device of the network.
        """
        set_phase(self.model, MEASURE)
        with torch.no_grad():
            for features, *_ in itertools.islice(batches.epoch(0), N_CALIBRATION_BATCHES):
                forward(features.to(device))
        set_phase(self.model, FIXED)

    def n_seen(self) -> list[int]:
        """Numbers of batches that the ranges come from, in the order of the layers."""
        return [layer.n_seen for layer in self._layers()]

    def set_n_seen(self, numbers: Sequence[int]) -> None:
        """Go on from the result of `n_seen`."""
        for layer, number in zip(self._layers(), numbers, strict=True):
            layer.n_seen = number

    def _layers(self) -> list[FakeQuantize]:
        return [layer for layer in self.model.layers if isinstance(layer, FakeQuantize)]

    def step(self, epoch: int) -> None:
        """Set the phase of the ranges for a step of an epoch, counted from 0."""
        set_phase(self.model, LEARN if epoch < self.n_learn else FIXED)
