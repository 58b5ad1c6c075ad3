"""Trainings of every kind that are killed (SIGKILL) at any time, also while they write, end as undisturbed ones."""

import contextlib
import dataclasses
import math
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from killed import contents, killed_again_and_again
from reduced import reduced
from triplet_tones import SETTINGS as TRIPLETS
from triplet_tones import Tones

from birdnet_fs.cli.pseudo_label import pseudo_label
from birdnet_fs.core.settings import override
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.motifs.tile2vec import training as tile2vec
from birdnet_fs.motifs.tile2vec.batches import TripletBatches
from birdnet_fs.runs.history import read_history
from birdnet_fs.runs.tensors import read_weights
from birdnet_fs.schema import Checkpoints, Data, Episodes, Experiment, FrontEnd, Model, Optimizer, Training
from birdnet_fs.training import trainer
from birdnet_fs.training.resume import state

BASE = Experiment(
    name="killed",
    data=Data(table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
    frontend=FrontEnd(segment_s=1.0, sample_rate_hz=16_000, n_mels=16, fmin_hz=300.0, fmax_hz=6_000.0),
    model=Model("cnn/tiny", dropout=0.2),
    training=Training(
        epochs=3,
        batch_size=2,
        threads=1,
        optimizer=Optimizer(ema=0.9, accumulate=2),
        checkpoints=Checkpoints(n_best=2, select="best"),
    ),
)
KINDS = {
    "supervised": (),
    "pretraining": (),
    "distillation": ("distillation.teacher=RUN", "distillation.features=1"),
    "self-distillation": ("distillation.teacher=self", "distillation.rounds=2", "training.epochs=2"),
    "8 bits": ("model.weights=RUN", "model.quantized=true", "model.dropout=0", "training.optimizer.ema=0"),
    "episodes": ("model.head=prototypes", "training.checkpoints.select=last"),
    "pseudo-labels": (),
    "Tile2Vec": (),
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=8, n_soundscapes=1)
    return folder


@pytest.fixture(scope="module")
def first(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run for initial weights, and as a teacher."""
    return trainer.train(experiment(recordings), tmp_path_factory.mktemp("first") / "run").path


def experiment(recordings: Path, *settings: str) -> Experiment:
    return override(BASE, [f"data.root={recordings}", *settings])


def command(kind: str, recordings: Path, first: Path) -> Callable[[Path], object]:
    """Work in a folder; done again, it goes on."""
    if kind == "Tile2Vec":
        return lambda folder: tile2vec.fit_tile2vec(TripletBatches(Tones(), TRIPLETS), TRIPLETS, folder / "run")
    if kind == "pseudo-labels":
        sounds = str(next((recordings / "audio").rglob("*soundscape*")))
        return lambda folder: pseudo_label(first, [sounds, "training.epochs=2"], folder / "rounds", rounds=2)
    chosen = experiment(recordings, *(each.replace("RUN", str(first)) for each in KINDS[kind]))
    if kind == "pretraining":
        chosen = dataclasses.replace(chosen, pretrain=experiment(recordings, "name=before"))
    if kind == "episodes":
        chosen = dataclasses.replace(
            chosen, episodes=Episodes(n_way=3, n_shot=2, n_query=2, n_train=4, n_val=0, n_test=0)
        )
    return lambda folder: trainer.train(chosen, folder / "run")


def states_after_every_batch() -> None:
    state.EVERY_S, state.MOST_TIME = 0.0, math.inf
    tile2vec.SAVE_EVERY_S = 0.0


def trained(folder: Path) -> dict[str, object]:
    """Weights and histories below a folder, by file, without times."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("weights.safetensors")):
        found[str(path.relative_to(folder))] = read_weights(path)
    for path in sorted(folder.rglob("history.csv")):
        rows = read_history(path)
        found[str(path.relative_to(folder))] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return found


def campaign(
    kind: str,
    recordings: Path,
    first: Path,
    place: Path,
    n_kills: int,
    patches: Callable[[], None] = states_after_every_batch,
) -> tuple[int, int]:
    """Kill a training `n_kills` times at random changes, compare it with an undisturbed one, and count the kills."""
    run, rng = command(kind, recordings, first), random.Random(kind)
    whole, folder = place / "whole", place / "killed"
    whole.mkdir()
    folder.mkdir()
    killed_again_and_again(whole, lambda: run(whole), rng, 0, 1)
    counts = killed_again_and_again(folder, lambda: run(folder), rng, n_kills, 60, patches)
    assert trained(whole)
    np.testing.assert_equal(trained(folder), trained(whole))
    assert set(contents(folder)) == set(contents(whole))
    return counts


@pytest.mark.parametrize(
    ("kind", "n_kills"),
    [
        *((kind, 3) for kind in ("supervised", "episodes", "Tile2Vec")),
        *(pytest.param(kind, 25, marks=pytest.mark.slow) for kind in KINDS),
    ],
)
def test_training_that_is_killed_again_and_again_ends_as_undisturbed(
    kind: str, n_kills: int, recordings: Path, first: Path, tmp_path: Path
) -> None:
    with reduced("tilenet/v2"):
        n, n_half_written = campaign(kind, recordings, first, tmp_path, n_kills)
    print(f"{kind}: {n} kills, {n_half_written} of them while something was half-written")
    assert n == n_kills or n_kills > 3


@contextlib.contextmanager
def in_place(folder: Path) -> Iterator[Path]:
    """Writes a folder without a temporary one, as `model.save` does."""
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    for path in folder.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())


def test_states_that_are_written_in_place_do_not_survive_kills(recordings: Path, first: Path, tmp_path: Path) -> None:
    """The campaign fails for the naive way of writing, so that it would notice."""

    def naive() -> None:
        states_after_every_batch()
        state.atomic_folder = in_place

    with pytest.raises(AssertionError, match="failed on its own"):
        campaign("supervised", recordings, first, tmp_path, 40, naive)
