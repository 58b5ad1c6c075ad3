"""The commands and settings of docs/prototypical.md."""

import csv
import operator
import re
import shlex
from pathlib import Path

import pytest
from command_line import birdnet_fs

from birdnet_fs import models
from birdnet_fs.cli.experiment import load_experiment
from birdnet_fs.core.settings import override
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.models.prototypical import VARIANTS
from birdnet_fs.runs.run import load_run

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "prototypical.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"`birdnet-fs ([^`]+)`", TEXT)]
TRAININGS = [command for command in COMMANDS if command[0] == "train"]
SETTINGS = re.findall(r"`((?:training|model|augmentation|episodes)\.[a-z_.]+=[^`]+)`", TEXT)
# what makes a training of a second out of one of hours
CHEAP = (
    *("frontend.segment_s=0.5", "frontend.keep_frames=48", "frontend.n_mels=32", "model.channels=[16,32]"),
    *("episodes.n_way=2", "episodes.n_shot=2", "episodes.n_query=2"),
    *("episodes.n_train=2", "episodes.n_val=4", "episodes.n_test=4", "training.epochs=1", "training.threads=1"),
    *("data.table=roles.csv", "data.where=set=aviary,role=base|val|novel"),
)


def test_guide_has_commands_and_settings() -> None:
    assert len(TRAININGS) == 11 and len(SETTINGS) > 12


@pytest.mark.parametrize("command", TRAININGS, ids=lambda command: " ".join(command[1:]))
def test_every_training_can_be_started(command: list[str]) -> None:
    name = command[1].partition(":")[2]
    settings = [word for word in command[2:] if "=" in word]
    found = load_experiment(f"{ROOT / 'config.py'}:{name}", settings)
    plain = load_experiment(f"{ROOT / 'config.py'}:{name}", settings[:1])
    for setting in settings[1:]:
        key = operator.attrgetter(setting.partition("=")[0])
        assert key(found) != key(plain)
    assert models.build(
        found.model.name,
        input_shape=(64, 32, 1),
        n_classes=2,
        channels=found.model.channels,
        block_dropout=found.model.block_dropout,
    )


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_that_helps_can_be_given(setting: str) -> None:
    plain = load_experiment(f"{ROOT / 'config.py'}:fewshot_v2")
    assert override(plain, setting.split()).name == "fewshot_v2"


def test_variants_of_the_table_are_those_of_the_package() -> None:
    rows = re.findall(r"^\| `(v\d\w*)` \| [\d,]+ \|", TEXT, re.MULTILINE)
    assert rows == sorted(VARIANTS)


def test_commands_lead_from_a_training_to_new_classes(tmp_path: Path) -> None:
    root = make_aviary(tmp_path / "aviary", n_species=12, clips_per_species=6, n_soundscapes=0)
    with open(root / "metadata.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "aviary"]
    labels = sorted({row["label"] for row in rows})
    new, roles = labels[:3], dict(zip(labels[3:], ["base"] * 5 + ["val"] * 2 + ["novel"] * 2, strict=True))
    with open(root / "roles.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "role"])
        writer.writeheader()
        writer.writerows({**row, "role": roles.get(row["label"], "new")} for row in rows)
    for row in rows:
        if row["label"] in new:
            (tmp_path / "clips" / row["label"]).mkdir(parents=True, exist_ok=True)
            (tmp_path / "clips" / row["label"] / row["filename"]).symlink_to(root / "audio" / row["filename"])
    settings = (f"data.root={root}", *CHEAP)
    birdnet_fs("train", f"{ROOT / 'config.py'}:fewshot_v1", *settings, "-o", "runs/fewshot_v2", cwd=tmp_path)
    assert load_run(tmp_path / "runs/fewshot_v2").frontend.normalize_when == "clip"
    for command in [command for command in COMMANDS if command[0] == "evaluate"]:
        birdnet_fs(*command, cwd=tmp_path)
    assert (tmp_path / "tested/report.html").is_file()
    block = re.findall(r"^birdnet-fs (.+?)(?:  +#.*)?$", TEXT, re.MULTILINE)
    assert [line.split()[0] for line in block] == ["fewshot-eval", "enroll", "export"]
    birdnet_fs(*shlex.split(block[0]), "--episodes", "20", cwd=tmp_path)
    birdnet_fs(*shlex.split(block[1]), "--no-unknown", cwd=tmp_path)
    assert load_run(tmp_path / "runs/mine").classes == tuple(new)
