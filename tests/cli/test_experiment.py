"""Loading of experiments and search spaces, the project's own and those of the design documents."""

import operator
import re
import sys
from pathlib import Path

import encoder_runs
import pytest
from installed import need

from birdnet_fs import schema
from birdnet_fs.cli.experiment import load_experiment, load_space
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
def test_settings_of_the_few_shot_document_have_equivalents(there: str, here: str, value: object) -> None:
    changed, plain = load_experiment(f"{CONFIG}:fewshot_v2", [here]), load_experiment(f"{CONFIG}:fewshot_v2")
    of = operator.attrgetter(here.partition("=")[0])
    assert of(changed) == value != of(plain)


def test_few_shot_defaults_are_those_of_the_document() -> None:
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


def test_settings_of_the_few_shot_document_combine() -> None:
    found = load_experiment(f"{CONFIG}:fewshot_v2", [here for _, here, _ in SAME])
    for _, here, value in SAME:
        assert operator.attrgetter(here.partition("=")[0])(found) == value


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
def test_settings_that_do_not_fit_are_refused(setting: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_experiment(f"{CONFIG}:fewshot_v2", setting.split())


def test_data_root_applies_to_pretraining() -> None:
    moved = load_experiment(f"{CONFIG}:soundscapes", ["data.root=/elsewhere"])
    assert moved.pretrain.data.root == moved.pretrain.pretrain.data.root == moved.data.root == "/elsewhere"
    apart = load_experiment(f"{CONFIG}:soundscapes", ["data.root=/elsewhere", "pretrain.data.root=/other"])
    assert apart.pretrain.data.root == "/other" and apart.pretrain.pretrain.data.root == "/elsewhere"


SOURCES = "\n".join(path.read_text("utf-8") for path in (CONFIG, *CONFIG.with_name("experiments").glob("*.py")))
EXPERIMENTS = re.findall(r"^def ([a-z]\w*)\(.*-> Experiment:", SOURCES, re.MULTILINE)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_of_config_loads(name: str) -> None:
    assert load_experiment(f"{CONFIG}:{name}").name == name
    assert schema.debugged(load_experiment(f"{CONFIG}:{name}", ["quick=true"])).training.epochs <= 2


LAUNCHES = re.findall(r"birdnet-fs (train|cv|tune) config\.py:(\w+) *(.*)", SOURCES)


@pytest.mark.parametrize(("verb", "name", "rest"), LAUNCHES)
def test_every_launch_command_of_config_is_valid(verb: str, name: str, rest: str, tmp_path: Path) -> None:
    settings = [word.rstrip('"') for word in rest.split() if "=" in word]
    if "model.encoder=FILE" in settings:
        need("onnxruntime")
        file, card = encoder_runs.write_encoder(tmp_path)
        settings = [each.replace("FILE", str(file)) for each in settings] + [f"model.encoder_card={card}"]
    chosen = load_experiment(f"{CONFIG}:{name}", settings)
    assert any(setting.startswith("data.root=") for setting in settings)
    if verb == "tune":
        assert load_space("", f"{CONFIG}:{name}").values
        assert chosen.data.val_fraction > 0 or chosen.data.split == "70/15/15"


def test_every_experiment_of_config_has_a_launch_command() -> None:
    assert {name for _, name, _ in LAUNCHES} >= set(EXPERIMENTS)


def test_load_space_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no search space 'space_birds10_cn'.* Did you mean 'space_birds10_cnn'"):
        load_space("space_birds10_cn", f"{CONFIG}:birds10_cnn")


def test_config_files_import_modules_of_their_own_folder(tmp_path: Path) -> None:
    for name, epochs in (("one", 3), ("two", 4)):
        (tmp_path / name / "experiments").mkdir(parents=True)
        (tmp_path / name / "experiments" / "__init__.py").write_text("")
        made = f"from birdnet_fs.schema import Experiment, Training\nMADE = Experiment(training=Training({epochs}))\n"
        (tmp_path / name / "experiments" / "sizes.py").write_text(made)
        text = "from birdnet_fs.schema import Experiment\nfrom experiments.sizes import MADE\n"
        (tmp_path / name / "config.py").write_text(f"{text}def mine() -> Experiment:\n    return MADE\n")
    before = list(sys.path)
    found = [load_experiment(f"{tmp_path / name / 'config.py'}:mine").training.epochs for name in ("one", "two", "one")]
    assert found == [3, 4, 3]
    assert load_experiment(f"{CONFIG}:birds10").name == "birds10"
    assert sys.path == before and not any(name.partition(".")[0] == "experiments" for name in sys.modules)
