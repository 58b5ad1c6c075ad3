"""NEUTRAL_SETTINGS, the settings that do not make another run, wherever they are used."""

from pathlib import Path
from types import SimpleNamespace
from typing import get_args, get_type_hints

import pytest

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import flat, override
from birdnet_fs.runs import resolve
from birdnet_fs.runs.resolve import (
    MACHINE_SETTINGS,
    NEUTRAL_SETTINGS,
    OUTPUT_SETTINGS,
    comparable,
    differing_settings,
    is_finished,
)
from birdnet_fs.schema import Categorical, Experiment, Float, Space
from birdnet_fs.training import trainer
from birdnet_fs.tuning.space import check_space
from birdnet_fs.tuning.study import Study, read_base

OTHER = {
    "training.device": "cpu",
    "training.threads": "3",
    "training.workers": "2",
    "training.gradient_checkpointing": "true",
    "data.cache": "/cache",
    "data.cache_gb": "5.5",
    "training.cache": "features",
    "training.track": "both",
    "training.checkpoints.n_best": "4",
}
NEEDED = {"training.cache": ("data.cache=/cache", "augmentation.crop=center")}  # beside a setting
BASE = Experiment(name="base", pretrain=Experiment(name="first"))
SPACE = Space({"training.learning_rate": Float(1e-4, 1e-2)})


def test_every_setting_of_the_list_has_another_value_here() -> None:
    assert OTHER.keys() == set(NEUTRAL_SETTINGS)


@pytest.mark.parametrize("key", OTHER)
@pytest.mark.parametrize("part", ["", "pretrain."])
def test_a_setting_of_the_list_makes_no_other_run_anywhere(
    key: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = override(BASE, [f"{part}{setting}" for setting in NEEDED.get(key, ())])
    other = override(base, [f"{part}{key}={OTHER[key]}"])
    assert other != base and comparable(other) == comparable(base)
    for one, two in ((base, other), (other, base)):
        kept = resolve.resolved(one)
        monkeypatch.setattr(resolve, "load_run", lambda folder, kept=kept: SimpleNamespace(experiment=kept))
        assert is_finished(tmp_path, two) and differing_settings(tmp_path, two) == []
    Study(tmp_path / "study", other, SPACE)
    Study(tmp_path / "study", base, SPACE)
    if not part:
        with pytest.raises(UserError, match=f"{key} cannot be searched: it does not change the network"):
            check_space(Space({key: Categorical((OTHER[key], "0"))}), base)


def test_a_study_keeps_its_base_without_the_machine(tmp_path: Path) -> None:
    given = {**OTHER, "augmentation.crop": "center"}
    other = override(BASE, [f"{part}{key}={value}" for key, value in given.items() for part in ("", "pretrain.")])
    Study(tmp_path, other, SPACE)
    kept = flat(read_base(tmp_path))
    for part in ("", "pretrain."):
        assert all(kept[f"{part}{key}"] == flat(BASE)[f"{part}{key}"] for key in MACHINE_SETTINGS)
        assert all(kept[f"{part}{key}"] == flat(other)[f"{part}{key}"] for key in OUTPUT_SETTINGS)


def test_a_pretraining_has_the_settings_of_the_list_from_its_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(trainer, "is_finished", lambda folder, experiment: False)
    monkeypatch.setattr(trainer, "train", lambda experiment, folder: trained.append(experiment))
    settings = [f"{key}={value}" for key, value in OTHER.items()]
    trainer.pretrain(override(BASE, [*settings, "augmentation.crop=center"]), tmp_path)
    (first,) = trained
    # whether features are kept depends on the augmentation, which a pretraining has for itself
    assert first == override(BASE.pretrain, [setting for setting in settings if "training.cache" not in setting])


def changed(key: str) -> Experiment | None:
    """The default experiment with another value of a setting; None where none that is tried is allowed alone."""
    group: type = Experiment
    *groups, name = key.split(".")
    for part in groups:
        group = get_type_hints(group)[part]
    hint, value = get_type_hints(group)[name], flat(Experiment())[key]
    choices = [str(choice) for choice in get_args(hint) if isinstance(choice, str)]
    for text in [*choices, "true", "false", "1", "2", "0.5", "0.01", "a"]:
        try:
            other = override(Experiment(), [f"{key}={text}"])
        except UserError:
            continue
        if flat(other)[key] != value:
            return other
    return None


def test_every_other_setting_makes_another_run() -> None:
    parts = ("episodes", "pretrain")  # None here
    others = [key for key in flat(Experiment()) if key not in (*NEUTRAL_SETTINGS, *parts)]
    tried = {key: one for key in others if (one := changed(key)) is not None}
    assert len(tried) > 0.6 * len(others)  # the rest are pairs of numbers, or need another setting beside them
    assert [key for key, one in tried.items() if comparable(one) == comparable(Experiment())] == []
    assert schema.Training() == comparable(Experiment()).training
