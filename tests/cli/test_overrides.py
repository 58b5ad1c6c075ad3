"""The commands of the few-shot design document, as they are given here."""

import operator
from pathlib import Path

import pytest

from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.errors import UserError

CONFIG = Path(__file__).parents[2] / "config.py"

# `archs/train.py arch=v2 X` there is `birdnet-fs train config.py:fewshot_v2 Y` here
SAME = [
    ("arch.training.learning_rate=0.0005", "training.learning_rate=0.0005", 0.0005),
    ("arch.training.gradient_clip_val=0.5", "training.optimizer.clip_norm=0.5", 0.5),
    ("arch.training.max_epochs=100", "training.epochs=100", 100),
    ("arch.augmentation.time_mask_pct=0.2", "augmentation.time_masks.longest=0.2", 0.2),
    ("arch.augmentation.freq_mask_pct=0.2", "augmentation.freq_masks.longest=0.2", 0.2),
    ("arch.model.channels=[128,256,512,1024]", "model.channels=[128,256,512,1024]", (128, 256, 512, 1024)),
    ("arch.model.dropout=0.2", "model.block_dropout=0.2", 0.2),
    ("exp_name=v2_experiment_1", "name=v2_experiment_1", "v2_experiment_1"),
]


@pytest.mark.parametrize(("there", "here", "value"), SAME)
def test_every_override_of_the_document_has_one_here(there: str, here: str, value: object) -> None:
    changed, plain = load_experiment(f"{CONFIG}:fewshot_v2", [here]), load_experiment(f"{CONFIG}:fewshot_v2")
    of = operator.attrgetter(here.partition("=")[0])
    assert of(changed) == value != of(plain)


def test_the_defaults_are_the_documents() -> None:
    """arch=v1 and arch=v2: episodes, optimizer, checkpoints by validation accuracy."""
    v1, v2 = (load_experiment(f"{CONFIG}:fewshot_{v}") for v in ("v1", "v2"))
    for one in (v1, v2):
        episodes, training = one.episodes, one.training
        assert (episodes.n_way, episodes.n_shot, episodes.n_query) == (10, 5, 5)
        assert (training.epochs, training.checkpoints.patience, training.checkpoints.select) == (50, 10, "best")
        assert (training.checkpoints.n_best, training.track) == (3, "none")
    assert (v1.model.name, v1.training.schedule.name, v1.training.optimizer.clip_norm) == ("prototypical/v1", "step", 0)
    assert (v2.model.name, v2.training.schedule.name, v2.training.optimizer.clip_norm) == (
        "prototypical/v2",
        "cosine",
        1.0,
    )


def test_they_go_together() -> None:
    found = load_experiment(f"{CONFIG}:fewshot_v2", [here for _, here, _ in SAME])
    for _, here, value in SAME:
        assert operator.attrgetter(here.partition("=")[0])(found) == value


def test_the_teacher_has_the_name_of_torch_impl_too() -> None:
    short, full = (
        load_experiment(f"{CONFIG}:birds10", [f"{key}=runs/a=b"]) for key in ("teacher_model", "distillation.teacher")
    )
    assert short == full and short.distillation.teacher == "runs/a=b"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model=cnn/small model.channels=[8,8]", r"model\.channels is for model\.name=prototypical/v2, "),
        ("model=prototypical/v1 model.block_dropout=0.2", r"model\.block_dropout is for model\.name=prototypical/v2"),
        ("model.block_dropout=1", r"model\.block_dropout must be in \[0, 1\)"),
        ("model.channels=[a]", r"model\.channels must be a list"),
        ("training.checkpoints.n_best=-1", r"training\.checkpoints\.n_best must be 0 or more"),
        ("training.track=mlfow", r"Did you mean 'mlflow'\?"),
    ],
)
def test_what_cannot_be_is_refused(setting: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_experiment(f"{CONFIG}:fewshot_v2", setting.split())
