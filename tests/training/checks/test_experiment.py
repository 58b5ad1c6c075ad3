"""`--cfg` refuses what training refuses before it decodes a recording: with the same status and the same sentence."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from command_line import ROOT, birdnet_fs
from small_runs import write_run

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.runs.resolve import pretraining
from birdnet_fs.training import trainer
from birdnet_fs.training.checks.experiment import check_training

X = "experiments.py:my_recordings"
SMALL = "training.epochs=1 training.min_steps=0"  # a setting that was not refused trains for a moment
STILL = "augmentation.crop=center augmentation.mixup.p=0 augmentation.noise.p=0"
# (verb, settings; words of the sentence)
WRONG = [
    ("train model=cnn/smal", "Did you mean 'cnn/small'?"),
    ("train data.root=single", "Training needs two or more classes"),
    ("train data.split=classes", "holds out whole classes"),
    ("train model=vit/tiny model.weights=notes.h5", "notes.h5"),
    ("train model=cnn/small model.weights=ab", "is a run of cnn/tiny, whose weights do not fit cnn/small"),
    ("train model.weights=ab", "ab/weights.safetensors"),
    ("train distillation.teacher=xy", "xy"),
    (f"train distillation.teacher=ab training.cache=features data.cache=kept {STILL}", "and the teacher has another"),
    ("train training.finetuning.freeze_blocks=100 model.weights=whole", "freeze_blocks must be at most"),
    ("train frontend.resize=[2,2]", "needs features of at least 16 frames x 16 mels"),
    ("train frontend.n_mels=1000", "of the bands are empty"),
    ("cv distillation.teacher=xy", "xy"),
    ("tune data.val_fraction=0 --trials 1", "Tuning needs validation clips"),
]
MORE = [
    ("train model=efficientnet_v2_qat", "birdnet-fs quantize RUN -o OUTPUT"),
    ("train data.root=nowhere", "data.root must be a file or folder that exists"),
    ("train data.fold=9", "data.fold must be one of the folds"),
    ("train model.weights=nowhere.h5", "model.weights must be a file or folder that exists"),
    ("train model.weights=notes.txt", "notes.txt"),
    ("train distillation.teacher=nowhere", "which does not exist"),
    ("train training.device=cuda", "training.device=cuda needs a GPU"),
    ("train -o notes.txt", "notes.txt is a file"),
    ("train --copy-encoder", "--copy-encoder copies the file of model.encoder"),
    ("cv data.split=70/15/15", "Cross-validation needs data.split=folds"),
    ("cv --fold 17", "--fold must be one of"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two species, runs of cnn/tiny, and files that are no weights."""
    folder = tmp_path_factory.mktemp("cfg")
    shutil.copy(ROOT / "birdnet_fs" / "cli" / "starter.py", folder / "experiments.py")
    for species in ("a", "b"):
        (folder / "recordings" / species).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number).normal(0, 0.1, 48_000)
            soundfile.write(folder / "recordings" / species / f"{number}.wav", noise, 16_000)
    shutil.copytree(folder / "recordings" / "a", folder / "single" / "a")
    write_run(folder / "ab")
    write_run(folder / "xy", ("x", "y"))
    experiment = schema.Experiment(name="whole", model=schema.Model("cnn/tiny"))
    network = trainer.prepare.build_network(experiment, 2)
    from birdnet_fs.runs.run import model_weights, save_run

    save_run(folder / "whole", experiment, ("a", "b"), model_weights(network))
    for name in ("notes.txt", "notes.h5"):
        (folder / name).write_text("x")
    return folder


@pytest.mark.parametrize(("command", "words"), [*WRONG, *(pytest.param(*row, marks=pytest.mark.slow) for row in MORE)])
def test_cfg_refuses_what_training_refuses(place: Path, command: str, words: str) -> None:
    if "cuda" in command and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    verb, *given = command.split(" ")
    root = [] if "data.root" in command else ["data.root=recordings"]
    arguments = [verb, X, *root, *given, *(SMALL.split() if verb != "tune" else ())]
    before = sorted(os.listdir(place))
    shown = birdnet_fs(*arguments, "--cfg", cwd=place, check=False)
    assert sorted(os.listdir(place)) == before
    trained = birdnet_fs(*arguments, cwd=place, check=False)
    assert (shown.returncode, trained.returncode) == (2, 2), shown.stderr + trained.stderr
    refused, sentence = (done.stderr.strip().splitlines()[-1] for done in (shown, trained))
    assert refused == sentence
    assert refused.startswith("birdnet-fs: ") and words in refused


@pytest.mark.parametrize("verb", ["train", "cv", "tune"])
def test_cfg_prints_settings_and_numbers_and_writes_nothing(place: Path, verb: str) -> None:
    before = sorted(os.listdir(place))
    done = birdnet_fs(verb, X, "data.root=recordings", "data.val_fraction=0.2", "--cfg", cwd=place)
    assert "model.name=cnn/tiny" in done.stdout and "data.root=recordings" in done.stdout
    assert "my_recordings can be trained with these settings: " in done.stderr and "2 classes, " in done.stderr
    assert sorted(os.listdir(place)) == before


def test_settings_are_printed_where_the_data_are_missing(place: Path) -> None:
    done = birdnet_fs("train", X, "data.root=nowhere", "--cfg", cwd=place, check=False)
    assert done.returncode == 2 and "data.root=nowhere" in done.stdout


def test_pretraining_is_checked_with_its_own_settings(place: Path) -> None:
    data = schema.Data(root=str(place / "recordings"))
    first = schema.Experiment(name="first", data=data, model=schema.Model("cnn/tiny"), seed=1)
    experiment = schema.Experiment(name="second", data=data, model=schema.Model("cnn/tiny"), pretrain=first, seed=7)
    assert "2 classes" in check_training(experiment)
    assert pretraining(experiment).seed == 7
    bands = dataclasses.replace(first.frontend, n_mels=1000)
    wrong = dataclasses.replace(experiment, pretrain=dataclasses.replace(first, frontend=bands))
    with pytest.raises(UserError, match="of the bands are empty"):
        check_training(wrong)
