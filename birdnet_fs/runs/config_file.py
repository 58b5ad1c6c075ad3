"""Experiments in JSON files (`config.json` of a run, `base.json` of a study), those of earlier versions included.

Settings that an earlier version wrote under other names are translated (core/renamed.py). A folder that a newer
version wrote is refused, since its settings and weights may mean something else.
"""

import json
import re
from pathlib import Path

from birdnet_fs import __version__, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.renamed import translated
from birdnet_fs.core.settings import from_dict

VERSIONS = "versions.json"


def read_experiment(file: Path) -> schema.Experiment:
    """Read the experiment that a JSON file holds.

    Args:
        file: JSON object of settings, as `core.settings.to_dict` writes it, of this version or an earlier one. A
            versions.json beside it holds the version that wrote it.

    Returns:
        The experiment, with the settings of this version.

    Raises:
        UserError: The file is unreadable, a newer version wrote it, or it holds an unknown setting or a wrong value;
            the file is named.
    """
    _refuse_newer(file.parent)
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not readable JSON ({error}); copy it again.") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file} must hold a JSON object of settings.")
    try:
        return from_dict(schema.Experiment, translated(settings))
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _refuse_newer(folder: Path) -> None:
    try:
        written = json.loads((folder / VERSIONS).read_text(encoding="utf-8"))["birdnet_fs"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # missing or damaged: the settings themselves are validated
    if _release(str(written)) > _release(__version__):
        raise UserError(
            f"{folder} was written by birdnet_fs {written}, and this is {__version__}; install birdnet_fs {written} or "
            "newer to open it."
        )


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (0, 10, 2) of "0.10.2"; () when it does not start with a number."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()
