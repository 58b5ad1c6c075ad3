"""Docstrings of public functions have arguments, returns, errors and shapes; pydoclint compares them with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*(ROOT / "birdnet_fs").rglob("*.py"), *(ROOT / "export").glob("*.py")])
SCRIPTS = [ROOT / "config.py", *(ROOT / "experiments").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
N_ARGS = 3  # from so many arguments on, each has its line
NO_NOUN = "As|Of|What|Its|Whose|By|That|From|How|Why|Where|Which|See|Those|These"  # such a text does not stand alone
ENTRY = re.compile(rf"\s+[\w*]+: (?:{NO_NOUN}|It|They|The same)\b")
SUMMARY = re.compile(rf"(?:{NO_NOUN})\b")


def public_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef, list[str]]]:
    """(name, function, decorators) of module functions and of methods of public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node, [ast.unparse(d) for d in node.decorator_list]
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                    yield f"{node.name}.{method.name}", method, [ast.unparse(d) for d in method.decorator_list]


def faults(source: str) -> list[str]:
    """What the public functions of a file lack."""
    found = []
    for name, function, decorators in public_functions(ast.parse(source)):
        text = ast.get_docstring(function) or ""
        if any("property" in d or "setter" in d or "overload" in d for d in decorators) or "Source: as" in text:
            continue
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        arguments = [a for a in arguments if a.arg not in ("self", "cls")]
        returns = ast.unparse(function.returns) if function.returns else "None"
        if not text:
            found.append(f"{name}: no docstring")
        if len(arguments) >= N_ARGS:
            found += [f"{name}: no Args entry for {a.arg}" for a in arguments if f"{a.arg}: " not in text]
            if returns != "None" and "Returns:" not in text and "Yields:" not in text:
                found.append(f"{name}: no Returns")
        annotations = [ast.unparse(a.annotation) for a in arguments if a.annotation] + [returns]
        if any("ndarray" in a or "NDArray" in a or "Tensor" in a for a in annotations) and "[" not in text:
            found.append(f"{name}: no shape of an array")
        raised = {
            ast.unparse(n.exc.func)
            for n in ast.walk(function)
            if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)
        }
        if "UserError" in raised and "Raises:" not in text:
            found.append(f"{name}: no Raises")
    return found


def incomplete(source: str) -> list[str]:
    """Lines of docstrings, private ones too, that begin with a word that needs the text before it: "LINE: text"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            lines = node.body[0].value.value.splitlines()  # type: ignore[attr-defined]  # get_docstring found it
            wrong = [n for n, line in enumerate(lines) if (ENTRY if n else SUMMARY).match(line)]
            found += [f"{node.body[0].lineno + n}: {lines[n].strip()}" for n in wrong]
    return found


def test_summaries_and_entries_stand_alone() -> None:
    found = {file: incomplete(file.read_text(encoding="utf-8")) for file in [*FILES, *SCRIPTS]}
    assert [f"{file.relative_to(ROOT)}:{line}" for file, lines in found.items() for line in lines] == []


def test_incomplete_summaries_and_entries_are_found() -> None:
    entries = "Args:\n        a: As in `g`.\n        b: Name of what it holds.\n        *c: Its name.\n"
    source = f'def f(a, b, *c):\n    """What f does.\n\n    {entries}    """\n'
    assert incomplete(source) == ["2: What f does.", "5: a: As in `g`.", "7: *c: Its name."]


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_public_functions_say_what_they_take_and_give(file: Path) -> None:
    if "cli" in file.relative_to(ROOT).parts[:-1] and file.name != "commands.py":  # Typer makes help of annotations
        return
    assert faults(file.read_text(encoding="utf-8")) == []


def test_faults_are_found() -> None:
    source = "def f(a: np.ndarray, b, c) -> int:\n    'Text.'\n    raise UserError('x')\n"
    assert faults(source) == [
        "f: no Args entry for a",
        "f: no Args entry for b",
        "f: no Args entry for c",
        "f: no Returns",
        "f: no shape of an array",
        "f: no Raises",
    ]
