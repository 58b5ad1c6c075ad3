"""Parsing of `key=value` and JSON into the settings of an experiment."""

import pytest

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import assigned, flat, from_dict, override, show, text, to_dict
from birdnet_fs.schema import Data, Experiment, FrontEnd, Training


def test_override_parses_values_by_type() -> None:
    e = override(
        Experiment(),
        [
            "model=efficientnet_v2",
            "training.batch_size=32",
            "training.learning_rate=1e-4",
            "frontend.resize=[256, 256]",
            "data.multi_label=true",
            "name=0123",
        ],
    )
    assert (e.model.name, e.training.batch_size, e.training.learning_rate) == ("efficientnet_v2", 32, 1e-4)
    assert e.frontend.resize == (256, 256)
    assert e.data.multi_label is True
    assert e.name == "0123"  # text stays text
    assert e.augmentation == Experiment().augmentation


def test_override_checks_settings_after_the_last_one() -> None:
    settings = ["frontend.fmax_hz=20000", "frontend.sample_rate_hz=48000"]
    assert override(Experiment(), settings) == override(Experiment(), settings[::-1])
    assert (
        override(
            Experiment(), ["training.checkpoints.select=best", "data.val_fraction=0.2"]
        ).training.checkpoints.select
        == "best"
    )


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("trainig.batch_size=3", "Did you mean 'training.batch_size'"),
        ("training.batchsize=3", "Did you mean 'training.batch_size'"),
        ("training.epochs=many", "training.epochs must be a whole number. Received: 'many'"),
        ("training.epochs=2.5", "must be a whole number"),
        ("training.epochs=1e999", "training.epochs must be a whole number"),
        ("training.learning_rate=inf", "training.learning_rate must be a number"),
        ("training=3", "'training' is a group of settings"),
        ("seed", "A setting must be key=value. Received: 'seed'"),
        ("training.checkpoints.select=bets", "Did you mean 'best'?"),
        ("augmentation.mixup=0.5", "'augmentation.mixup' is a group of settings; set one of them: p, alpha, on"),
        ("augmentation.mixup_p=0.5", "Did you mean 'augmentation.mixup.p'?"),
        ("data.multi_label=yes", "must be true or false"),
        ("data.fold.x=1", "'data.fold' holds one value"),
        ("frontend.resize=[1]", "must be a list [a whole number, a whole number]"),
        ("model.head=cosin", "Did you mean 'cosine'? Received: 'cosin'"),
        ("training.loss=arcfac", "Did you mean 'arcface'?"),
        ("training.schedule=cosin", "Did you mean 'cosine'?"),
    ],
)
def test_override_refuses_wrong_settings_in_one_sentence(setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), [setting])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["pretrain=xc171", "pretrain.seed=1", "pretrain.pretrain=xc171", "episodes=5-way"])
def test_override_refuses_parts_that_the_experiment_lacks(setting: str) -> None:
    part = "pretrain" if setting.startswith("pretrain") else "episodes"
    with pytest.raises(UserError, match=rf"cannot be set: the experiment has no '{part}' part; add it in the config"):
        override(Experiment(), [setting])


def test_override_removes_parts_with_none() -> None:
    assert override(Experiment(), ["episodes=none", "pretrain=none"]) == Experiment()
    with pytest.raises(UserError, match="'pretrain' is a group of settings"):
        override(Experiment(pretrain=Experiment()), ["pretrain=xc171"])


def test_override_sets_groups_by_name() -> None:
    e = override(
        Experiment(pretrain=Experiment(name="first")), ["frontend=x"], {"frontend": lambda n: FrontEnd(preset=n)}
    )
    assert e.frontend.preset == "x"
    assert override(e, ["pretrain.training.epochs=3"]).pretrain.training.epochs == 3
    assert override(e, ["pretrain=none"]).pretrain is None


def test_from_dict_inverts_to_dict() -> None:
    e = Experiment(pretrain=Experiment(name="first"), training=Training(epochs=3), frontend=FrontEnd(resize=(4, 5)))
    assert from_dict(Experiment, to_dict(e)) == e
    with pytest.raises(UserError, match="Did you mean 'training'"):
        from_dict(Experiment, {"trainin": {}})
    with pytest.raises(UserError, match=r"training\.epochs must be a whole number"):
        from_dict(Experiment, {"training": {"epochs": "x"}})


def test_override_parses_what_show_prints() -> None:
    e = Experiment(name="a=b", seed=3, data=Data(where="set=x,role=a|b"), frontend=FrontEnd(resize=(4, 5)))
    assert override(Experiment(), show(e).splitlines()) == e


def test_flat_has_one_dotted_key_per_setting() -> None:
    found = flat(Experiment(pretrain=Experiment(name="first")))
    assert found["training.loss.name"] == "auto" and found["pretrain.name"] == "first"
    assert found["frontend.resize"] == "[0,0]" and found["episodes"] == "None"


def test_assigned_does_not_run_the_checks_of_the_dataclasses() -> None:
    assert assigned(Training(), ["epochs=0"])["epochs"] == 0
    with pytest.raises(UserError, match="epochs must be a whole number"):
        assigned(Training(), ["epochs=x"])


@pytest.mark.parametrize(("value", "written"), [((1, 2), "[1,2]"), (False, "false"), (None, "None"), ("a b", "a b")])
def test_text_is_parsed_back(value: object, written: str) -> None:
    assert text(value) == written


def test_from_dict_reads_names_of_groups() -> None:
    assert from_dict(Experiment, {"model": "cnn/tiny"}).model == schema.Model("cnn/tiny")
    with pytest.raises(UserError, match=r"frontend\.n_mels must be a whole number"):
        from_dict(FrontEnd, {"n_mels": "many"}, "frontend.")


@pytest.mark.parametrize(
    "assignment",
    [
        f"seed={'9' * 6000}",
        f"width=0x{'f' * 6000}",
        f"seed={'(' * 5000}",
        f"seed={'-' * 100_000}1",
        f"seed={'[' * 90}{']' * 90}",
        f"name={'a' * 5}\0",
        "name=\ud800",
        f"{'w' * 100_000}=1",
        "seed=" + "x" * 100_000,
    ],
)
def test_huge_and_odd_values_are_refused_in_a_short_sentence(assignment: str) -> None:
    with pytest.raises(UserError) as caught:
        override(Experiment(), [assignment])
    assert len(str(caught.value)) < 1000
