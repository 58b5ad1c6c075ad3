"""CONTRIBUTING names every file to touch for the usual additions: those of an existing example, found in the code."""

import ast
import re
from pathlib import Path

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
