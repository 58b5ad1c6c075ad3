"""Checks of the optimizer and schedule settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("training.optimizer.swa_epochs=-1", "training.optimizer.swa_epochs must be 0 or more epochs. Received: -1"),
        (
            "training.optimizer.swa_epochs=2 training.optimizer.ema=0.9",
            "training.optimizer.swa_epochs and training.optimizer.ema are two averages",
        ),
        ("training.optimizer=sgd training.optimizer.amsgrad=true", "amsgrad needs training.optimizer=adamw or adam"),
        ("training.optimizer.accumulate=0", "training.optimizer.accumulate must be 1 or more"),
        ("training.optimizer.beta2=1", "training.optimizer.beta2 must be in [0, 1)"),
        ("training.optimizer.clip_norm=-1", "training.optimizer.clip_norm must be 0 or more"),
        ("training.schedule.warmup_epochs=-1", "training.schedule.warmup_epochs must be 0 or more"),
        ("training.schedule.min_learning_rate=1", "must be in [0, 0.001] (training.learning_rate). Received: 1.0"),
        ("training.schedule.step_epochs=0", "training.schedule.step_epochs must be 1 or more"),
        ("training.schedule.step_factor=0", "training.schedule.step_factor must be in (0, 1]"),
        ("training.schedule.plateau_factor=1", "training.schedule.plateau_factor must be between 0 and 1"),
        ("training.schedule.plateau_patience=-1", "training.schedule.plateau_patience must be 0 or more epochs"),
        (
            "training.schedule=plateau",
            "training.checkpoints.patience and training.schedule=plateau need validation clips",
        ),
    ],
)
def test_optimizer_and_schedule_refuse_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)
