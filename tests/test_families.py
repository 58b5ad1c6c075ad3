"""Recipes of the families of networks: one for each family, valid, trained for a step, and the table of results."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from birdnet_fs.cli.experiment import load_experiment, load_space
from birdnet_fs.core.json_file import read_json
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
ROOT = CONFIG.parent
RESULTS = read_json(ROOT / "benchmarks" / "families.json", "check it out again")
MAX_CPU_S = {"panns/cnn14": 1200, "convnext/tiny": 1200}  # of a fold; 600 for the others
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


def benchmark() -> Any:
    """The module benchmarks/families.py."""
    spec = importlib.util.spec_from_file_location("families_benchmark", ROOT / "benchmarks" / "families.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_the_guide_is_that_of_the_stored_results() -> None:
    lines = benchmark().table(RESULTS)
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == 2 + len(RESULTS)
    assert "\n".join(lines) in (ROOT / "docs" / "results.md").read_text("utf-8")


@pytest.mark.parametrize("name", sorted(set(RESULTS) - {"birds10_birdnet"}))
def test_stored_results_are_of_the_recipe_and_within_the_time(name: str) -> None:
    row = RESULTS[name]
    assert load_experiment(f"{CONFIG}:{name}", row["settings"]) == load_experiment(f"{CONFIG}:{name}")
    assert row["network"] == NETWORKS[name] and name in row["command"] and set(row["folds"]) == {"0", "1"}
    longest = MAX_CPU_S.get(row["network"], 600)
    assert all(0 < row["cpu_s"][f"fold{fold}"] + row["cpu_s"]["pretrain"] <= longest for fold in row["folds"])
    for column, key in enumerate(("accuracy", "macro_auroc")):
        value, low, high = row[key]
        assert low <= value <= high and value == pytest.approx(
            sum(f[column] for f in row["folds"].values()) / 2, abs=1e-3
        )
