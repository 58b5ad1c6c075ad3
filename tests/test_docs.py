"""The guides say what is there: every setting of a table can be given, every file that is linked exists."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from command_line import birdnet_fs

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.schema import Experiment

ROOT = Path(__file__).parents[1]
GUIDES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
SETTING = re.compile(r"^\| `([a-z_.]+)=([^`]+)` \|", re.MULTILINE)
SETTINGS = SETTING.findall((ROOT / "docs" / "training.md").read_text(encoding="utf-8"))
# what a setting needs beside it
WITH = {
    "soft_auc": ["data.multi_label=true"],
    "asymmetric": ["data.multi_label=true"],
    "mask": ["data.multi_label=true"],
    "arcface": ["model.head=cosine"],
    "circle": ["model.head=cosine"],
    "training.loss.frame_loss": ["model.head=sed"],
    "training.checkpoints.patience": ["data.val_fraction=0.2"],
    "training.finetuning.freeze_blocks": ["model.weights=RUN"],
    "model.quantized": ["model.weights=RUN"],
    "training.cache": ["data.cache=FOLDER", "augmentation.crop=center"],
    "data.spectrograms": ["augmentation.crop=center"],
    "model.encoder_head.smote": ["model.encoder=FILE"],
    "distillation.features": ["distillation.teacher=RUN"],
}


def test_guide_lists_settings() -> None:
    assert len(SETTINGS) > 40 and len({name for name, _ in SETTINGS}) > 35


@pytest.mark.parametrize(("name", "value"), SETTINGS, ids=lambda text: text)
def test_every_setting_of_the_table_can_be_given(name: str, value: str) -> None:
    others = [*WITH.get(name, []), *WITH.get(value, [])]
    changed = override(Experiment(), [*others, f"{name}={value}"])
    assert changed != override(Experiment(), others) or f"{name}={value}" in (
        "training.loss=auto",
        "training.optimizer.clip_norm=1",
    )
    with pytest.raises(UserError, match="Did you mean"):
        override(Experiment(), [f"{name}x={value}"])


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_link_to_a_file_holds(guide: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", guide.read_text(encoding="utf-8")):
        assert (guide.parent / target).exists(), f"{guide.name} links to {target}"


def issue_commands(*, slow: bool) -> list[list[str]]:
    """Commands of docs/common_issues.md in their order; those marked slow are left out, unless `slow`."""
    text = (ROOT / "docs" / "common_issues.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- run by tests/test_docs.py -->\n```\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == text.count("\nbirdnet-fs ") > 6
    return [shlex.split(line, comments=True)[1:] for line in lines if slow or not line.endswith("# slow")]


@pytest.mark.parametrize("slow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_commands_for_common_issues_run(slow: bool, tmp_path: Path) -> None:
    from birdnet_fs.data.synthetic.aviary import make_aviary

    make_aviary(tmp_path / "aviary", n_species=3, clips_per_species=5, n_soundscapes=0)
    lines = (tmp_path / "aviary" / "metadata.csv").read_text(encoding="utf-8").splitlines()
    for name, kind, label, *_ in (line.split(",") for line in lines):
        if kind == "aviary":
            (tmp_path / "recordings" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(tmp_path / "aviary" / "audio" / Path(name).name, tmp_path / "recordings" / label)
    said = ""
    for arguments in issue_commands(slow=slow):
        done = birdnet_fs(*arguments, cwd=tmp_path)
        said += done.stdout
    assert "training.epochs=50" in said.splitlines() and "model.name=cnn/small" in said.splitlines()
    assert (tmp_path / "runs" / "small_memory_8bit" / "metrics.json").is_file()
    assert (tmp_path / "augmented.html").is_file() and (tmp_path / "manifest.csv").is_file()
    assert (tmp_path / "artifacts").is_dir() is slow
