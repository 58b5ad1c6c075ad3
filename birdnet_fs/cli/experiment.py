"""Loading of experiments and search spaces from a config file, with `key=value` settings applied."""

import contextlib
import dataclasses
import importlib
import inspect
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birdnet_fs import frontend, schema
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.renamed import in_python
from birdnet_fs.core.settings import override
from birdnet_fs.schema.networks import backbone_options, check_model


def load_experiment(reference: str, settings: Sequence[str] = ()) -> schema.Experiment:
    """Load a named experiment from a config file and apply settings.

    Args:
        reference: `config.py:name`: a Python file and a function in it that returns an `Experiment`. The file can
            import modules of its folder.
        settings: `key=value` each; `quick=true` is passed to the function.

    Returns:
        The experiment with the settings applied.

    Raises:
        UserError: The file or the experiment does not exist (the nearest name is given), or a setting does not fit.
    """
    path, colon, name = reference.rpartition(":")
    if not colon:
        path, name = reference, ""
    if not Path(path).is_file():
        raise UserError(
            f"An experiment is FILE:NAME, as config.py:birds10; there is no file {path!r} here. "
            "`birdnet-fs init` writes a config.py with examples."
        )
    found = _functions(Path(path), "Experiment")
    if not name:
        raise UserError(f"The experiment is missing; write {path}:NAME. The file has: {', '.join(found) or 'none'}.")
    if name not in found:
        raise UserError(
            f"{path} has no experiment {name!r}.{nearest(name, found)} The file has: {', '.join(found) or 'none'}."
        )
    quick = [s for s in settings if s.partition("=")[0].strip() == "quick"]
    wrong = next((s for s in quick if s.replace(" ", "").lower() not in ("quick=true", "quick=false")), None)
    if wrong is not None:
        raise UserError(f"quick must be true or false. Received: {wrong.partition('=')[2]!r}")
    make = found[name]
    if quick and "quick" not in inspect.signature(make).parameters:
        raise UserError(f"Experiment {name!r} in {path} has no quick version.")
    options = {"quick": quick[-1].lower().endswith("true")} if quick else {}
    experiment = _made(make, path, options)
    rest = [s for s in settings if s not in quick]
    chosen = override(experiment, rest, {"frontend": frontend.preset})
    check_model(chosen.model)
    _check_dropout(chosen.model, rest)
    if chosen.model.encoder:
        from birdnet_fs.inference.encoder_settings import with_encoder

        return with_encoder(chosen, rest)
    return _moved(chosen, experiment.data.root, chosen.data.root)


def _moved(experiment: schema.Experiment, old: str, new: str) -> schema.Experiment:
    """Apply data.root to the pretraining experiments that have the same root."""
    first = experiment.pretrain
    if first is None:
        return experiment
    root = new if first.data.root == old else first.data.root
    first = _moved(dataclasses.replace(first, data=dataclasses.replace(first.data, root=root)), old, new)
    return dataclasses.replace(experiment, pretrain=first)


def _check_dropout(model: schema.Model, settings: Sequence[str]) -> None:
    """Refuse the dropout of a finished embedding where the network has the one that is usually meant."""
    given = any(s.partition("=")[0].strip() == "model.dropout" for s in settings)
    if given and model.dropout and model.head == "prototypes" and backbone_options(model.name, block_dropout=0.0):
        raise UserError(
            f"model.dropout={model.dropout:g} would drop parts of the finished embedding of {model.name}, on which "
            f"distances are computed; type model.block_dropout={model.dropout:g} for dropout inside the network."
        )


def load_space(reference: str, experiment: str) -> schema.Space:
    """Load the search space of an experiment.

    Args:
        reference: `config.py:space_name`, a function that returns a `Space`; `space_name` alone is of the experiment's
            file, and "" is its `space_NAME`.
        experiment: `config.py:NAME`.

    Returns:
        The search space.

    Raises:
        UserError: The file or the search space does not exist.
    """
    own, _, tuned = experiment.rpartition(":")
    path, _, name = reference.rpartition(":")
    path, name = path or own, name or f"space_{tuned}"
    if not Path(path).is_file():
        raise UserError(f"A search space is FILE:NAME, as config.py:{name}; there is no file {path!r} here.")
    found = _functions(Path(path), "Space")
    if name not in found:
        raise UserError(
            f"{path} has no search space {name!r}.{nearest(name, found)} The file has: {', '.join(found) or 'none'}; a "
            "search space is a function annotated with -> Space, and --space gives its name."
        )
    return _made(found[name], path, {})


def _functions(path: Path, kind: str) -> dict[str, Callable[..., Any]]:
    """Find the functions of a file whose annotated return type is `kind` of the schema."""
    try:
        with _modules_beside(path):
            names = runpy.run_path(str(path))
    except UserError:
        raise
    except Exception as error:
        said = in_python(error) or f"{type(error).__name__}: {error}"
        raise UserError(f"{path} could not be run as Python: {said}") from error
    return {
        name: value
        for name, value in names.items()
        if inspect.isfunction(value) and not name.startswith("_") and _gives(value, kind)
    }


@contextlib.contextmanager
def _modules_beside(path: Path) -> Iterator[None]:
    """Let a config file import modules of its own folder, as a script does; other config files do not get them."""
    folder, before = path.resolve().parent, set(sys.modules)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the file removed it
            sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            top = name.partition(".")[0]
            if top != "birdnet_fs" and any((folder / part).exists() for part in (top, f"{top}.py")):
                del sys.modules[name]


def _made(function: Callable[..., Any], path: str, options: Mapping[str, Any]) -> Any:
    """Call a function of a config file; names of earlier versions in it raise UserError with the new name."""
    try:
        return function(**options)
    except Exception as error:
        said = in_python(error)
        if not said:
            raise
        raise UserError(f"{path}, {function.__name__}: {said}") from error


def _gives(function: Callable[..., object], kind: str) -> bool:
    return function.__annotations__.get("return") in (getattr(schema, kind), kind, f"schema.{kind}")
