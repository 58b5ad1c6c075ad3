"""The order of the rooms: a module imports only from rooms above its own; starting a command imports no framework."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "birdnet_fs"
ROOMS = (
    "plumbing",
    "schema",
    "recordings",
    "frontend",
    "batches",
    "models",
    "training",
    "fewshot",
    "motifs",
    "scoring",
    "reports",
    "export",
    "cli",
)
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "birdnet_fs":
            parts = (node.module or "").split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.add("a relative import")
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("birdnet_fs.")}
    return found - {"__version__"}


def test_every_file_has_a_room() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_only_from_rooms_above(file: Path) -> None:
    own = room_of(file)
    allowed = set(ROOMS[: ROOMS.index(own) + 1]) if own != "__init__" else set()
    assert imported_rooms(file) <= allowed, f"{own} must not import {sorted(imported_rooms(file) - allowed)}"


def test_a_wrong_import_is_seen(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text("def f():\n    from birdnet_fs.reports.page import write_report\n    import birdnet_fs.cli.main\n")
    assert imported_rooms(wrong) == {"reports", "cli"}


def test_the_command_starts_without_a_framework() -> None:
    heavy = "{'torch', 'keras', 'tensorflow', 'numpy', 'scipy', 'numba', 'sklearn', 'matplotlib', 'soundfile'}"
    code = f"import sys, birdnet_fs.cli.main; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_no_asserts_and_no_pickle_in_the_package() -> None:
    for file in FILES:
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        assert not any(isinstance(node, ast.Assert) for node in nodes), f"assert in {file}"
        names = {alias.name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names}
        assert not names & {"pickle", "joblib", "dill", "shelve"}, f"pickle in {file}"
