"""CONTRIBUTING names every file to touch for the usual additions: those of an existing example, found in the code."""

import ast
import re
import shutil
from pathlib import Path

import preloaded
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "birdnet_fs"
ROWS = re.findall(
    r"^\| ([a-z ]+) \| `([a-z_-]+)` \|(.*)\|$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.M
)


def names_in(source: str) -> set[str]:
    """Names that the code defines, imports or takes as keyword, and its string constants; docstrings are left out."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.name.rpartition(".")[2] for alias in node.names}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def files_that_name(example: str) -> set[str]:
    """Files of the package that name an example, and its own file."""
    wanted = {example, example.replace("-", "_")}
    return {
        file.relative_to(PACKAGE).as_posix()
        for file in PACKAGE.rglob("*.py")
        if wanted & names_in(file.read_text(encoding="utf-8")) or file.stem in wanted
    }


def test_there_are_eight_additions() -> None:
    assert [name for name, _, _ in ROWS] == [
        "augmentation",
        "loss",
        "output format",
        "backbone",
        "export program",
        "export format",
        "label layout",
        "verb",
    ]


@pytest.mark.parametrize(("name", "example", "cells"), ROWS, ids=lambda text: text[:20])
def test_a_row_names_every_file_of_its_example(name: str, example: str, cells: str) -> None:
    paths = set(re.findall(r"`([a-z_0-9/]+(?:\.py)?)`", cells))
    tests = {path for path in paths if path.startswith("tests/")}
    named = {path for path in paths - tests if path.endswith(".py") and "/" in path}
    assert named == files_that_name(example)
    assert tests and all((ROOT / path).exists() for path in tests)


FOLLOWED = """
import sys
sys.path[:0] = [{copy!r}, {helpers!r}]
import torch
from fixed_batches import FixedBatches, network
import birdnet_fs
from birdnet_fs import schema
from birdnet_fs.core.settings import override
from birdnet_fs.training.losses import SINGLE
from birdnet_fs.training.loop import run_epochs

assert birdnet_fs.__file__.startswith({copy!r})
logits, targets = torch.randn(6, 4, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[[0, 1, 2, 3, 0, 1]]
p = torch.softmax(logits, 1)[range(6), targets.argmax(1)]
expected = (-p.log() + 1 - p).mean()
assert abs(SINGLE["poly"](logits, targets) - expected) < 1e-12, (SINGLE["poly"](logits, targets), expected)
chosen = override(schema.Experiment(), ["training.loss=poly", "training.epochs=40", "training.learning_rate=0.02"])
model = network()
rows = run_epochs(model, FixedBatches(), chosen.training).history
assert rows[-1]["train_loss"] < 0.7 * rows[0]["train_loss"], rows
"""


def test_a_loss_that_is_added_by_the_steps_trains(tmp_path: Path) -> None:
    """The steps in a copy of the package: the function, the row, the name."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## A loss, step by step")[1].split("\n## ")[0]
    function, row = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    shutil.copytree(PACKAGE, tmp_path / "birdnet_fs", ignore=shutil.ignore_patterns("__pycache__"))
    losses, names = tmp_path / "birdnet_fs" / "training" / "losses.py", tmp_path / "birdnet_fs" / "schema" / "loss.py"
    table = re.search(r"as a row: (.*)$", row, re.MULTILINE)
    assert table
    code = losses.read_text(encoding="utf-8").replace("def with_frames(", f"{function}\n\ndef with_frames(", 1)
    losses.write_text(re.sub(r"(SINGLE: .* = \{)", rf"\1{table[1]} ", code), encoding="utf-8")
    code = names.read_text(encoding="utf-8")
    names.write_text(re.sub(r"(name: Literal\[[^]]*)\]", r'\1, "poly"]', code, count=1), encoding="utf-8")
    code = FOLLOWED.format(copy=str(tmp_path), helpers=str(ROOT / "tests" / "helpers"))
    done = preloaded.run_python(["-c", code], backend="torch", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
