"""Completion of experiments and settings in the shell: `config.py:bi` and `training.pre`, and values after `=`.

Config files are read, not run, so that a key press has no effects. Bash splits words at `:` and `=`: there the part
behind the sign is completed, and the part before it is the argument parsed before.
"""

import ast
import typing
from pathlib import Path
from typing import Annotated, Any

import typer


def experiment_words(context: typer.Context, incomplete: str) -> list[str]:
    """Complete `FILE:NAME`: Python files of the folder with experiments, then the experiments of the one given.

    Args:
        context: Arguments parsed so far; not used.
        incomplete: Typed part of the argument.

    Returns:
        Possible arguments.
    """
    del context
    path, colon, _ = incomplete.rpartition(":")
    if colon:
        return [f"{path}:{name}" for name in _experiments(Path(path))]
    folder = Path(incomplete).parent
    try:
        files = sorted(folder.glob("*.py"))
    except OSError:
        return []
    return [f"{file}:" for file in files if str(file).startswith(incomplete) and _experiments(file)]


def setting_words(context: typer.Context, incomplete: str) -> list[str]:
    """Complete `KEY=VALUE`: the keys of an experiment, then the values of a key that has a few.

    Args:
        context: Arguments parsed so far.
        incomplete: Typed part of the argument.

    Returns:
        Possible arguments.
    """
    before = [str(word) for word in context.params.get("settings") or ()]
    if before and before[-1] == ":":  # bash, CONFIG:NAME
        return _experiments(Path(str(context.params.get("experiment", ""))))
    if len(before) > 1 and before[-1] == "=":  # bash, KEY=VALUE
        return _values(before[-2])
    key, sign, _ = incomplete.partition("=")
    if sign:
        return [f"{key}={value}" for value in _values(key)]
    return [f"{key}=" for key in _keys()]


def _experiments(file: Path) -> list[str]:
    """Names of the functions of a Python file that are annotated with -> Experiment."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return []
    local = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.returns is not None and _is_one(n)]
    imported: list[str] = []
    for node in tree.body:  # `from experiments.birds import birds10`
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            source = file.parent.joinpath(*node.module.split(".")).with_suffix(".py")
            if source.is_file() and source != file:
                known = set(_experiments(source))
                names = [alias.asname or alias.name for alias in node.names if alias.name in known]
                imported += known if any(alias.name == "*" for alias in node.names) else names
    return sorted(name for name in {*local, *imported} if not name.startswith("_"))


def _is_one(function: ast.FunctionDef) -> bool:
    """Whether a function is annotated with the type of experiments."""
    return function.returns is not None and ast.unparse(function.returns).strip("'\"") in (
        "Experiment",
        "schema.Experiment",
    )


def _keys() -> list[str]:
    from birdnet_fs import schema
    from birdnet_fs.core.settings import keys

    return keys(schema.Experiment)


def _values(key: str) -> list[str]:
    """Values of a setting that is true or false or has listed choices; none for others."""
    from birdnet_fs import schema
    from birdnet_fs.core.settings import annotation
    from birdnet_fs.schema.networks import names

    if key == "model.name":
        return names()
    hint: Any = annotation(schema.Experiment, key)
    if hint is bool:
        return ["true", "false"]
    return [str(value) for value in typing.get_args(hint)] if typing.get_origin(hint) is typing.Literal else []


ConfiguredExperiment = Annotated[
    str,
    typer.Argument(metavar="CONFIG:NAME", help="Experiment, as config.py:birds10.", autocompletion=experiment_words),
]
