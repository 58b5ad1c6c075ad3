"""Search spaces: what is wrong is said before the first trial, and a draw is settings as on the command line."""

import random
from pathlib import Path

import optuna
import pytest

from birdnet_fs.cli.experiment import load_experiment, load_space
from birdnet_fs.core.errors import UserError
from birdnet_fs.schema import Categorical, Experiment, Float, Int, Space
from birdnet_fs.tuning.space import check_space, distributions, settings_of, trial_experiment

CONFIG = Path(__file__).parents[2] / "config.py"
BASE = Experiment(name="base")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training.learning_rat": Float(1e-4, 1e-2)}, "Did you mean 'training.learning_rate'"),
        ({"training.batch_size": Float(8, 32)}, "training.batch_size must be a whole number"),
        ({"training.optimizer": Categorical(("adam", "adamm"))}, "one of adamw, adam, sgd, rmsprop"),
        ({"augmentation.crop": Int(0, 1)}, "augmentation.crop must be one of random, active"),
        ({"model": Categorical(("cnn/small", "cnn/smal"))}, "Did you mean 'cnn/small'"),
        ({"frontend": Categorical(("panns", "pann"))}, "panns"),
        ({"training": Categorical((1, 2))}, "'training' is a group of settings"),
        (
            {"data.val_fraction": Float(0.1, 0.3)},
            "data.val_fraction cannot be searched: it changes the training or validation data",
        ),
        ({"seed": Int(0, 9)}, "seed cannot be searched"),
        ({"episodes.n_way": Int(2, 9)}, "episodes.n_way cannot be searched"),
        ({"training.threads": Int(1, 4)}, "training.threads cannot be searched: it does not change the network"),
        (
            {"training.optimizer.swa_epochs": Categorical((0, "two"))},
            "training.optimizer.swa_epochs must be a whole number",
        ),
    ],
)
def test_check_space_refuses_wrong_spaces(values: dict, words: str) -> None:
    with pytest.raises(UserError) as error:
        check_space(Space(values), BASE)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_derived_settings_are_checked() -> None:
    values = {"model.dropout": Float(0.0, 0.5)}
    with pytest.raises(UserError, match=r"derive of the search space do not fit: Unknown setting 'model.drop'"):
        check_space(Space(values, derive=lambda drawn, base: {"model.drop": 0.1}), BASE)
    with pytest.raises(UserError, match="derive of the search space failed: KeyError"):
        check_space(Space(values, derive=lambda drawn, base: {"model.dropout": drawn["dropout"]}), BASE)


def test_a_draw_is_settings_as_on_the_command_line() -> None:
    space = Space(
        {
            "training.learning_rate": Float(1e-4, 1e-1, log=True),
            "training.batch_size": Int(8, 32, step=8),
            "frontend.resize": Categorical(((0, 0), (64, 32))),
            "training.optimizer.amsgrad": Categorical((False, True)),
            "model": Categorical(("cnn/tiny", "vit")),
            "frontend": Categorical(("panns", "fewshot")),
        },
        derive=lambda drawn, base: {"training.schedule.warmup_epochs": drawn["training.batch_size"] / 8 + base.seed},
    )
    params = {
        "training.learning_rate": 0.00123456789, "training.batch_size": 16, "frontend.resize": "[64,32]",
        "training.optimizer.amsgrad": "true", "model": "vit", "frontend": "panns",
    }  # fmt: skip
    study = optuna.create_study()
    study.enqueue_trial(params)
    assert study.ask(distributions(space)).params == params
    settings = settings_of(space, BASE, params)
    assert settings == [
        "training.learning_rate=0.00123457", "training.batch_size=16", "frontend.resize=[64,32]",
        "training.optimizer.amsgrad=true", "model=vit", "frontend=panns", "training.schedule.warmup_epochs=44.0",
    ]  # fmt: skip
    one = trial_experiment(BASE, settings, name="trial")
    assert (one.name, one.model.name, one.frontend.preset, one.training.optimizer.amsgrad) == (
        "trial",
        "vit",
        "panns",
        True,
    )
    assert (one.training.learning_rate, one.training.batch_size, one.training.schedule.warmup_epochs) == (
        0.00123457,
        16,
        44,
    )


# of the design documents (systems.md C and D): there, here, from, to
ANIMAL_SPOT = {
    "training.learning_rate": Float(1e-6, 1e-3, log=True),
    "training.batch_size": Categorical((8, 16, 32)),
    "frontend.segment_s": Float(0.3, 1.5, step=0.1),  # 300-1500 ms in steps of 100
    "frontend.n_fft": Categorical((512, 1024, 2048, 4096)),
    "frontend.n_mels": Categorical((128, 256, 512)),
    "training.optimizer.beta1": Float(0.5, 0.95),
}
BIRDCLEF = {
    "training.learning_rate": Float(1e-5, 1e-2, log=True),
    "training.batch_size": Categorical((16, 32, 64)),
    "model.dropout": Float(0.1, 0.5),
}


@pytest.mark.parametrize(
    ("name", "documented", "how"),
    [
        ("animal_spot", ANIMAL_SPOT, ("median", 5, 10, 50, "tpe")),
        ("birdclef2025", BIRDCLEF, (None, None, None, 50, "random")),
        ("birds10_cnn", {}, ()),
    ],
)
def test_spaces_of_the_project_fit_their_experiments(name: str, documented: dict, how: tuple) -> None:
    """Drawn at random, nearly all can be trained; numbers are the documents'."""
    base = load_experiment(f"{CONFIG}:{name}")
    space = load_space("", f"{CONFIG}:{name}")
    check_space(space, base)
    assert {key: space.values[key] for key in documented} == documented
    mine = (space.pruner, space.n_startup_trials, space.n_warmup_epochs, space.n_trials, space.sampler)
    assert all(wanted in (None, own) for wanted, own in zip(how, mine, strict=False))
    rng = random.Random(0)
    for _ in range(50):
        params = {}
        for key, values in space.values.items():
            if isinstance(values, Categorical):
                params[key] = rng.choice(distributions(space)[key].choices)
            elif isinstance(values, Int) or values.step:
                step = values.step or 1
                params[key] = values.low + step * rng.randint(0, round((values.high - values.low) / step))
            else:
                params[key] = rng.uniform(values.low, values.high)
        one = trial_experiment(base, settings_of(space, base, params), name="trial")
        if name == "animal_spot":
            assert one.frontend.shape[0] == 128
            assert one.training.learning_rate == pytest.approx(
                params["training.learning_rate"] * one.training.batch_size, rel=1e-5
            )


def test_space_of_the_starter_fits() -> None:
    from birdnet_fs.cli.starter import my_recordings, space_my_recordings

    check_space(space_my_recordings(), my_recordings())


def test_load_space_finds_by_name(tmp_path: Path) -> None:
    config = f"{CONFIG}:birds10_cnn"
    assert load_space("", config) == load_space("space_birds10_cnn", config)
    with pytest.raises(UserError, match="Did you mean 'space_animal_spot'"):
        load_space("space_animal", config)
    with pytest.raises(UserError, match=r"no file 'nowhere\.py'"):
        load_space("nowhere.py:space_x", config)
