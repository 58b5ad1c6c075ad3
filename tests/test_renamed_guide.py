"""Every new module, class and function that docs/renamed.md names exists, and no old module is left."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "birdnet_fs"
GUIDE = (ROOT / "docs" / "renamed.md").read_text(encoding="utf-8")


def rows(title: str) -> list[tuple[str, str]]:
    section = GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", section, re.MULTILINE)


def module_file(name: str) -> Path | None:
    """The file of a module of the package, or None."""
    place = PACKAGE.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


def test_the_tables_are_not_empty() -> None:
    assert len(rows("Modules")) > 100 and len(rows("Classes and functions")) > 200


@pytest.mark.parametrize(("old", "new"), rows("Modules"))
def test_a_module_has_its_new_name_only(old: str, new: str) -> None:
    assert module_file(new) is not None
    reused = (
        old in {name for _, name in rows("Modules")} or (PACKAGE.joinpath(*old.split(".")) / "__init__.py").is_file()
    )
    assert module_file(old) is None or reused


@pytest.mark.parametrize(("old", "new"), rows("Classes and functions"))
def test_a_class_or_function_has_its_new_name(old: str, new: str) -> None:
    parts = new.split(".")
    module = next(".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1) if module_file(".".join(parts[:n])))
    body: list[ast.stmt] = ast.parse(module_file(module).read_text(encoding="utf-8")).body
    for name in parts[len(module.split(".")) :]:
        found = next(n for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name == name)
        body = found.body
