"""Names of earlier versions: refused with the new one, listed for readers, translated where a run holds them."""

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from birdnet_fs import schema
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.renamed import CLASSES, OPTIONS, SETTINGS, TABLES, VALUES, VERBS, in_python, translated
from birdnet_fs.core.settings import flat, from_dict, override
from birdnet_fs.tuning.space import check_space

GUIDE = Path(__file__).parents[2] / "docs" / "renamed.md"
BASE = schema.Experiment(pretrain=schema.Experiment())


def nested(key: str, value: object) -> dict:
    """A dotted key as nested mappings."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def parameters_of(verb: str) -> set[str]:
    command = typer.main.get_command(app).commands[verb]
    return {name for parameter in command.params for name in parameter.opts}


def test_renamed_md_has_the_same_tables() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    found = {title: dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|$", body, re.MULTILINE))
             for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)}  # fmt: skip
    assert {title: found.get(title) for title in TABLES} == TABLES
    assert list(SETTINGS.values()) == list(dict.fromkeys(SETTINGS.values()))  # no two became one


@pytest.mark.parametrize(("old", "new"), SETTINGS.items())
def test_old_setting_is_refused_with_its_new_name(old: str, new: str) -> None:
    known = flat(BASE)
    assert new in known and old not in known
    for key, wanted in ((old, new), (f"pretrain.{old}", f"pretrain.{new}")):
        with pytest.raises(UserError, match=rf"^The setting {re.escape(key)} was renamed; use {re.escape(wanted)} "):
            override(BASE, [f"{key}=1"])
        with pytest.raises(UserError, match=r"was renamed; use (\S+) instead\.$") as caught:
            from_dict(schema.Experiment, nested(key, 1))
        assert f"{wanted} ".startswith(re.findall(r"use (\S+) instead", str(caught.value))[0])  # it, or its group
    if not old.startswith("data."):
        with pytest.raises(UserError, match=rf"use {re.escape(new)} instead"):
            check_space(schema.Space({old: schema.Int(1, 2)}), BASE)
    assert override(BASE, [f"{new}={known[new]}"]) == BASE  # the new one is read


@pytest.mark.parametrize(("old", "new"), VALUES.items())
def test_old_value_is_refused_with_its_new_name(old: str, new: str) -> None:
    changed = override(BASE, [new])
    key, _, value = new.partition("=")
    assert flat(changed)[key] == value and changed != BASE
    with pytest.raises(UserError, match=rf"^The value {re.escape(old)} was renamed; use {re.escape(new)} instead\.$"):
        override(BASE, [old])
    with pytest.raises(UserError, match=rf"use {re.escape(new)} instead"):
        from_dict(schema.Experiment, nested(key, old.partition("=")[2]))


@pytest.mark.parametrize(("old", "new"), VERBS.items())
def test_old_verb_is_refused_with_its_new_name(old: str, new: str) -> None:
    assert CliRunner().invoke(app, [new, "--help"]).exit_code == 0
    result = CliRunner().invoke(app, [old, "RUN"])
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == f"The verb `{old}` was renamed; use `birdnet-fs {new}` instead."


@pytest.mark.parametrize(("old", "new"), OPTIONS.items())
def test_old_option_is_refused_with_its_new_name(old: str, new: str) -> None:
    (verb, before), (_, now) = old.split(), new.split()
    assert now in parameters_of(verb) and before not in parameters_of(verb)
    for given in ([before, "3"], [f"{before}=3"]):
        result = CliRunner().invoke(app, [verb, "X", *given])
        assert isinstance(result.exception, UserError)
        assert str(result.exception) == f"The option {before} of `birdnet-fs {verb}` was renamed; use {now} instead."


def test_old_verb_exits_with_status_2(monkeypatch, capsys) -> None:
    from birdnet_fs.cli import main

    monkeypatch.setattr("sys.argv", ["birdnet-fs", "quantise", "RUN"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 2
    assert "use `birdnet-fs quantize` instead" in capsys.readouterr().err


@pytest.mark.parametrize(("old", "new"), CLASSES.items())
def test_old_class_in_a_config_file_is_refused_with_its_new_name(tmp_path: Path, old: str, new: str) -> None:
    assert hasattr(schema, new) and not hasattr(schema, old)
    for line in (f"from birdnet_fs.schema import {old}", f"from birdnet_fs import schema\nschema.{old}"):
        (tmp_path / "config.py").write_text(line + "\n")
        with pytest.raises(UserError, match=rf"birdnet_fs\.schema\.{old} was renamed; use {new} instead"):
            load_experiment(f"{tmp_path / 'config.py'}:x")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("Training(label_smoothing=0.1)", "training.label_smoothing was renamed; use training.loss.label_smoothing"),
        ("replace(Training(), views=2)", "training.views was renamed; use training.sampling.crops_per_clip"),
        ("FrontEnd(normalise='z_score')", "frontend.normalise was renamed; use frontend.normalize"),
        ("Data(detect='call')", "data.detect was renamed; use data.binary_label"),
        ("Experiment(pseudo=None)", "pseudo was renamed; use pseudo_labels"),
        ("Training(loss='focal')", "training.loss must be a Loss of birdnet_fs.schema, as loss=Loss(...)"),
    ],
)
def test_old_keyword_in_a_config_file_is_refused_with_its_new_name(tmp_path: Path, made: str, words: str) -> None:
    text = (
        "from dataclasses import replace\nfrom birdnet_fs.schema import *\n\n\ndef mine() -> Experiment:\n    return "
    )
    (tmp_path / "config.py").write_text(f"{text}{made}\n")
    with pytest.raises(UserError, match=re.escape(words)):
        load_experiment(f"{tmp_path / 'config.py'}:mine")


def test_in_python_returns_nothing_for_other_errors() -> None:
    assert in_python(TypeError("Training.__init__() got an unexpected keyword argument 'epoch'")) == ""
    assert in_python(ValueError("'Choice'")) == ""


def test_translated_refuses_a_setting_under_both_names() -> None:
    with pytest.raises(UserError, match=r"training\.views is given twice"):
        translated({"training": {"sampling": {"crops_per_clip": 2}, "views": 3}})


def test_translated_keeps_current_settings() -> None:
    today = {"training": {"loss": {"name": "focal", "margin": 0.2}}, "episodes": {}, "pretrain": None}
    assert translated(today) == today
