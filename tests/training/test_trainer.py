"""The trainer: seeds, what a callback may do, and pretraining that is not repeated."""

import random
from pathlib import Path

import pytest
import torch

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.runs.run import load_run
from birdnet_fs.schema import Checkpoints, Data, Experiment, FrontEnd, Model, Training
from birdnet_fs.training.trainer import pretrain, seed_everything, train


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("trainer") / "aviary"
    make_aviary(folder, n_species=2, clips_per_species=6, n_soundscapes=0)
    return Experiment(
        name="tiny",
        data=Data(root=str(folder), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
        frontend=FrontEnd(segment_s=1.0, sample_rate_hz=16_000, n_mels=16, fmax_hz=8_000.0),
        model=Model("cnn/tiny"),
        training=Training(epochs=2, batch_size=8, threads=1, checkpoints=Checkpoints(n_best=0)),
    )


def test_seeds_of_both_generators_differ_and_depend_on_the_generation() -> None:
    def draw(*arguments: int) -> tuple[float, float]:
        seed_everything(*arguments)
        return random.random(), float(torch.rand(1, dtype=torch.float64))

    assert draw(7) == draw(7, 0)
    assert len({*draw(7), *draw(7, 1), *draw(8)}) == 6
    with pytest.raises(UserError):
        seed_everything(-1)


def test_watch_gets_the_monitor_and_the_history_and_may_stop(base: Experiment, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def watch(monitor, history):
        assert monitor == "val_macro_auroc" and [row["epoch"] for row in history] == [1]
        raise Stop

    with pytest.raises(Stop):
        train(base, tmp_path / "run", watch=watch)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_pretrain_trains_once(base: Experiment, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no pretrain part"):
        pretrain(base, tmp_path / "first")
    both = Experiment(**{**vars(base), "pretrain": override(base, ["name=first", "training.epochs=1"])})
    folder = pretrain(both, tmp_path / "first")
    written = (folder / "weights.safetensors").stat().st_mtime_ns
    assert load_run(folder).experiment.name == "first"
    assert pretrain(both, tmp_path / "first") == folder
    assert (folder / "weights.safetensors").stat().st_mtime_ns == written
