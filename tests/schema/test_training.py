"""Checks and properties of the training settings."""

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Checkpoints, Experiment, Loss, Schedule, Training


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("training.epochs=0", "training.epochs must be 1 or more. Received: 0"),
        ("training.threads=-1", "training.threads must be 0 or more"),
        ("training.learning_rate=0", "training.learning_rate must be above 0"),
        ("training.finetuning.freeze_blocks=-2", "training.finetuning.freeze_blocks must be -1 (all) or more"),
        ("training.finetuning.freeze_blocks=2", "training.finetuning.freeze_blocks would freeze random weights"),
        ("training.finetuning.unfreeze_epoch=-1", "training.finetuning.unfreeze_epoch must be 0 or more epochs"),
        (
            "training.finetuning.unfreeze_epoch=2",
            "training.finetuning.unfreeze_epoch needs training.finetuning.freeze_blocks",
        ),
        ("training.finetuning.layer_decay=0", "training.finetuning.layer_decay must be in (0, 1]"),
        ("training.checkpoints.n_best=-1", "training.checkpoints.n_best must be 0 or more"),
        ("training.checkpoints.select=best", "set data.val_fraction"),
        (
            "training.checkpoints.patience=2",
            "training.checkpoints.patience and training.schedule=plateau need validation clips",
        ),
        (
            "training.optimizer.swa_epochs=2 training.checkpoints.select=best data.val_fraction=0.2",
            "training.optimizer.swa_epochs averages the last epochs",
        ),
    ],
)
def test_training_refuses_values_out_of_range(settings: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), settings.split())
    assert words in str(caught.value)


def test_training_refuses_a_name_in_place_of_a_group() -> None:
    with pytest.raises(UserError, match=r"training\.loss must be a Loss of birdnet_fs\.schema, as loss=Loss\(\.\.\.\)"):
        Training(loss="focal")  # type: ignore[arg-type]
    assert Training(loss=Loss("focal")).loss.name == "focal"


def test_needs_validation_for_selection_patience_and_plateau() -> None:
    assert not Training().needs_validation
    assert Training(checkpoints=Checkpoints("best")).needs_validation
    assert Training(checkpoints=Checkpoints(patience=3)).needs_validation
    assert Training(schedule=Schedule("plateau")).needs_validation
