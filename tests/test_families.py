"""Recipes of the families of networks: one for each family, valid, and trained for a step."""

from pathlib import Path

import pytest

from birdnet_fs.cli.experiment import load_experiment, load_space
from birdnet_fs.core.settings import override
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.runs.history import read_history
from birdnet_fs.schema.networks import FAMILIES, resolve
from birdnet_fs.training.trainer import train

CONFIG = Path(__file__).parents[1] / "config.py"
NETWORKS = {
    "birds10_cnn_tiny": "cnn/tiny",
    "birds10_cnn_small": "cnn/small",
    "birds10_efficientnet_b0": "efficientnet/b0",
    "birds10_efficientnet_v2_b0": "efficientnet_v2/b0",
    "birds10_ghost_efficientnet_v2": "ghost_efficientnet_v2/0.75",
    "birds10_mobilenet_v1": "panns/mobilenet_v1",
    "birds10_mobilenet_v2": "panns/mobilenet_v2",
    "birds10_cnn14": "panns/cnn14",
    "birds10_resnet_18": "resnet/18",
    "birds10_rnn_lstm": "rnn/lstm",
    "birds10_rnn_gru": "rnn/gru",
    "birds10_vit_tiny": "vit/tiny",
    "birds10_convnext_tiny": "convnext/tiny",
}
TRAINED_OTHERWISE = {
    "tilenet",
    "prototypical",
}  # by triplets, and in episodes


def test_every_family_has_a_recipe() -> None:
    assert {name.partition("/")[0] for name in NETWORKS.values()} == set(FAMILIES) - TRAINED_OTHERWISE


@pytest.mark.parametrize("name", NETWORKS)
def test_a_recipe_pretrains_and_distills_its_network(name: str) -> None:
    teachers = ["distillation.teacher=a", "pretrain.distillation.teacher=b"]
    chosen = load_experiment(f"{CONFIG}:{name}", teachers)
    assert chosen.pretrain is not None and chosen.pretrain.frontend == chosen.frontend
    assert chosen.model.name == chosen.pretrain.model.name == resolve(NETWORKS[name])
    assert chosen.distillation.features == chosen.pretrain.distillation.features > 0
    low, high = (lambda rates: (rates.low, rates.high))(
        load_space("space_birds10_families", f"{CONFIG}:{name}").values["training.learning_rate"]
    )
    assert low <= chosen.training.learning_rate <= high


def test_a_recipe_trains_on_other_clips(tmp_path: Path) -> None:
    make_aviary(tmp_path / "aviary", n_species=3, clips_per_species=5, n_soundscapes=0)
    settings = [f"data.root={tmp_path / 'aviary'}", "data.where=set=aviary", "data.background=", "pretrain=none"]
    settings += ["data.n_folds=2", "training.epochs=1", "training.max_steps=1"]
    run = train(override(load_experiment(f"{CONFIG}:birds10_cnn_tiny"), settings), tmp_path / "run")
    [row] = read_history(run.path / "history.csv")
    assert row["train_loss"] > 0 and run.experiment.model.name == "cnn/tiny"
