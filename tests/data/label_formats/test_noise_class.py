"""Noise as one of the classes of a softmax (`data.noise_label=class`), from the labels to a trained run."""

import json
from dataclasses import replace

import pytest
from animal_spot_clips import SPECIES, write_clips
from command_line import ROOT
from label_layouts import text, tone

import birdnet_fs as bfs
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.schema import Data, Experiment

LABELS = {"a": "K1", "b": "noise", "c": "K3", "d": "Background"}  # recording -> label


def as_folders(root):
    for name, label in LABELS.items():
        tone(root / label / f"{name}.wav")


def as_csv(root):
    for name in LABELS:
        tone(root / f"{name}.wav")
    text(root / "labels.csv", "filename,label\n" + "".join(f"{name}.wav,{label}\n" for name, label in LABELS.items()))


def as_raven(root):
    head = "Selection\tBegin Time (s)\tEnd Time (s)\tSpecies\n"
    for name, label in LABELS.items():
        tone(root / f"{name}.wav", 2.0)
        text(root / f"{name}.Table.1.selections.txt", f"{head}1\t0.5\t1.5\t{label}\n")


def as_audacity(root):
    for name, label in LABELS.items():
        tone(root / f"{name}.wav", 2.0)
        text(root / f"{name}.txt", f"0.5\t1.5\t{label}\n")


def as_animal_spot(root):
    for name, label in LABELS.items():
        tone(root / f"{label}-x_{name}_2024_tape{name}_100_900.wav")


LAYOUTS = (as_folders, as_csv, as_raven, as_audacity, as_animal_spot)


@pytest.mark.parametrize("write", LAYOUTS)
def test_noise_is_a_class_in_every_layout(tmp_path, write):
    write(tmp_path)
    found = read_manifest(Data(str(tmp_path), noise_label="class"))
    assert found.classes == ("Background", "K1", "K3", "noise")
    targets = clip_targets(found.clips, found.classes, multi_label=False)
    assert targets.sum(1).tolist() == [1, 1, 1, 1] and targets.sum(0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("write", LAYOUTS)
def test_noise_is_no_class_by_default(tmp_path, write):
    write(tmp_path)
    assert read_manifest(Data(str(tmp_path))).classes == ("K1", "K3")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("noise") / "clips", binary=False, n_clips=8, n_noise=10)


def recipe(clips, *settings) -> Experiment:
    """The recipe of ANIMAL-SPOT with a small network, which learns in seconds."""
    experiment = load_experiment(
        f"{ROOT / 'config.py'}:animal_spot",
        [
            f"data.root={clips}", "model=cnn/tiny", "training.epochs=10", "training.batch_size=16",
            "training.learning_rate=0.01", "training.schedule=cosine", "training.checkpoints.patience=0",
            "training.threads=1", "augmentation.animal_spot.p=0", *settings,
        ],
    )  # fmt: skip
    return replace(
        experiment, frontend=replace(experiment.frontend, n_mels=64, segment_s=0.8, hop_length=344, keep_frames=102)
    )


def test_the_recipe_of_animal_spot_learns_noise_as_a_class(clips, tmp_path):
    trainer = bfs.Trainer(recipe(clips), tmp_path / "run").train()
    accuracy, *_ = trainer.test()
    rows = {row["name"]: row for row in json.loads((tmp_path / "run" / "metrics.json").read_text())["per_class"]}
    print(accuracy, {name: row["recall"] for name, row in rows.items()})
    assert set(rows) == {"noise", *(species.latin for species in SPECIES)}
    assert rows["noise"]["n_positives"] > 0 and rows["noise"]["recall"] > 0.8 and accuracy > 0.5
    probabilities = bfs.load(tmp_path / "run").predict(next(clips.glob("noise-*.wav")))
    assert probabilities["noise"].max() > 0.5


@pytest.mark.slow
def test_resnet18_of_the_document_learns_noise_as_a_class(clips, tmp_path):
    """Segments of 500 ms with augmentation, sampling and rate as in the recipe; 10 of its 150 epochs."""
    settings = [f"data.root={clips}", "training.epochs=10", "training.threads=1"]
    trainer = bfs.Trainer(
        load_experiment(f"{ROOT / 'config.py'}:animal_spot_resnet18_500ms", settings), tmp_path / "run"
    ).train()
    accuracy, *_ = trainer.test()
    rows = {row["name"]: row["recall"] for row in trainer.metrics["per_class"]}
    print(accuracy, rows)
    assert rows["noise"] > 0.8 and accuracy > 0.5


def test_without_the_class_noise_the_recipe_is_refused_with_the_setting(clips, tmp_path):
    with pytest.raises(UserError, match=r"clips have no label .* data\.noise_label=class"):
        bfs.Trainer(recipe(clips, "data.noise_label=negative"), tmp_path / "run").train()
