"""A module imports only from rooms above its own and without circles; only models/ names families of networks."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "birdnet_fs"
ROOMS = (
    "core",
    "schema",
    "audio",
    "data",
    "frontend",
    "batches",
    "models",
    "encoders",
    "runs",
    "metrics",
    "inference",
    "training",
    "tuning",
    "fewshot",
    "motifs",
    "analysis",
    "search",
    "reports",
    "export",
    "cluster",
    "cli",
)
MAX_FILES = 17  # of one folder; cli has a file per verb
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {".".join(("birdnet_fs", *f.relative_to(PACKAGE).with_suffix("").parts)): f for f in FILES}
MODULES = {name.removesuffix(".__init__"): file for name, file in MODULES.items()}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> list[tuple[str, bool]]:
    """Every imported module of the package and whether it is imported for type checking only."""
    found = []

    def visit(node: ast.AST, typing_only: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            typing_only = True
        if isinstance(node, ast.ImportFrom) and node.level:
            found.append(("a relative import", typing_only))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "birdnet_fs":
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append((full if full in MODULES else str(node.module), typing_only))
        elif isinstance(node, ast.Import):
            found.extend((a.name, typing_only) for a in node.names if a.name.split(".")[0] == "birdnet_fs")
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only)

    visit(ast.parse(file.read_text(encoding="utf-8")), False)
    return found


def imported_rooms(file: Path) -> set[str]:
    parts = (name.split(".") for name, _ in imports_of(file))
    return {p[1] if len(p) > 1 else p[0] for p in parts} - {"birdnet_fs"}


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The shortest circle through each module that is part of one."""
    found = []
    for start in graph:
        paths = [[start]]
        seen = {start}
        while paths:
            path = paths.pop(0)
            following = graph.get(path[-1], set())
            if start in following:
                found.append([*path, start])
                break
            paths += [[*path, name] for name in sorted(following - seen)]
            seen |= following
    return found


def test_every_file_has_a_room() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} <= set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_only_from_rooms_above(file: Path) -> None:
    own = room_of(file)
    allowed = set(ROOMS[: ROOMS.index(own) + 1]) if own != "__init__" else set()
    assert imported_rooms(file) <= allowed, f"{own} must not import {sorted(imported_rooms(file) - allowed)}"


def test_modules_of_a_room_import_each_other_without_circles() -> None:
    graph = {
        name: {other for other, typing_only in imports_of(file) if not typing_only and other != name}
        for name, file in MODULES.items()
    }
    inside = {name: {other for other in others if other in MODULES} for name, others in graph.items()}
    assert circles(inside) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [["b", "c", "b"], ["c", "b", "c"]]


def test_wrong_imports_are_found(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "def f():\n    from birdnet_fs.reports.pages.render import render\n    import birdnet_fs.cli.main\n"
    )
    assert imported_rooms(wrong) == {"reports", "cli"}


def test_no_folder_is_crowded() -> None:
    counts = Counter(str(file.parent.relative_to(PACKAGE)) for file in FILES)
    assert {folder: n for folder, n in counts.items() if n > MAX_FILES and folder != "cli"} == {}


def family_names(source: str, families: set[str]) -> list[str]:
    """String constants that name a family or one of its variants, docstrings and messages left out."""
    constants = (
        n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )
    return [text for text in constants if " " not in text and text.partition("/")[0] in families]


def test_families_are_named_in_models_only() -> None:
    from birdnet_fs.models import FAMILIES

    # presets of front-ends carry names of their systems, the starter and the default experiment name a network, and
    # the tables of the families and of their published files are above models/, so that a name is checked without
    # Keras; Tile2Vec trains one family
    exempt = {"frontend/presets.py", "cli/starter.py", "schema/model.py", "schema/networks.py"}
    exempt |= {"schema/published_weights.py"}
    exempt |= {"motifs/tile2vec/settings.py"}
    found = {}
    for file in FILES:
        where = file.relative_to(PACKAGE).as_posix()
        if room_of(file) == "models" or where in exempt:
            continue
        source = file.read_text(encoding="utf-8")
        named = family_names(source, set(FAMILIES))
        named += [n for n in ("QUANTIZABLE", "QUANTIZABLE", "RECURRENT", "WIDTHS") if f"{n} =" in source]
        if named:
            found[where] = named
    assert found == {}
    assert family_names("x = name.startswith('vit/')\ny = ('rnn',)", {"vit", "rnn"}) == ["vit/", "rnn"]


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


def test_rooms_are_listed_in_the_package_in_their_order() -> None:
    text = ast.get_docstring(ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))) or ""
    assert tuple(re.findall(r"^    (\w+) {2,}", text, re.MULTILINE)) == ROOMS
