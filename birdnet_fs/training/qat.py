"""Training in 8 bits: a float run's experiment gone on with, and the ranges of its network.

Ranges are measured first, then follow the data, then are left alone.

Sources: Jacob et al. 2018, https://arxiv.org/abs/1712.05877, section 3.1 (ranges as moving averages); Krishnamoorthi
2018, https://arxiv.org/abs/1806.08342 (start from a float network). Ours: ranges are measured before the first step,
and stand still in the last epochs, so that the weights settle on the numbers that are shipped. What is learned is to
answer as the float run does (Polino et al. 2018, "Model Compression via Distillation and Quantization",
https://arxiv.org/abs/1802.05668): labels would train it further, and it would be another classifier, not a smaller one.
"""

import dataclasses
import itertools
from typing import Any

import keras
import torch

from birdnet_fs import schema
from birdnet_fs.batches.loader import TrainingBatches
from birdnet_fs.core.errors import UserError
from birdnet_fs.models.quantization.convert import set_phase
from birdnet_fs.models.quantization.fake_quant import FIXED, LEARN, MEASURE
from birdnet_fs.runs.run import Run

# settings of a group that a short training at a low rate takes over from the float run; the others have their defaults
KEPT = {
    "optimizer": ("weight_decay", "accumulate", "clip_norm"),
    "schedule": ("step_epochs", "step_factor", "plateau_factor", "plateau_patience"),
    "finetuning": (),
    "checkpoints": ("select",),
}
EPOCHS, LEARNING_RATE = 5, 5e-5
N_CALIBRATION_BATCHES = 16  # batches that the ranges are measured on, the mean of their extremes
FIXED_SHARE = 1 / 3  # of the epochs, the last ones; one at least


def qat_experiment(run: Run) -> schema.Experiment:
    """What trains a float run on in 8 bits: its own experiment on its own clips, behind its weights.

    It has few epochs at a low rate, and the float run is its teacher.

    Raises:
        UserError: The run is quantized already, or of a network that cannot be (schema.Model).
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
    """The ranges of a network.

    Args:
        model: What `quantized` made.
        epochs: Of the training.
    """

    def __init__(self, model: keras.Model, epochs: int) -> None:
        self.model = model
        self.n_learn = epochs - max(1, round(FIXED_SHARE * epochs))  # epochs in which they follow

    def calibrate(self, forward: Any, batches: TrainingBatches, device: torch.device) -> None:
        """Find the ranges of the network as it stands, from training batches; nothing is dropped and nothing learns.

        Args:
            forward: The network lowered.
            batches: Training data; the first ones of its first epoch are read, one epoch of them at most.
            device: Of the network.
        """
        set_phase(self.model, MEASURE)
        with torch.no_grad():
            for features, *_ in itertools.islice(batches.epoch(0), N_CALIBRATION_BATCHES):
                forward(features.to(device))
        set_phase(self.model, FIXED)

    def step(self, epoch: int) -> None:
        """Tell the ranges what to do in a step of an epoch, counted from 0."""
        set_phase(self.model, LEARN if epoch < self.n_learn else FIXED)
