"""Experiments in JSON files (`config.json` of a run, `base.json` of a study), those of earlier versions included.

Settings that an earlier version wrote under other names are translated (core/renamed.py). A folder that a newer
version wrote is refused, since its settings and weights may mean something else.
"""

import re
from pathlib import Path
from typing import Any

from birdnet_fs import __version__, schema
from birdnet_fs.core.errors import UserError, shown
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.renamed import translated
from birdnet_fs.core.settings import from_dict
from birdnet_fs.core.text import escaped

VERSIONS = "versions.json"
MAX_BYTES = 1_000_000  # of a config.json, which has a few thousand bytes, or of another small file of a run


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
    settings = read_json(file, "copy it again", max_bytes=MAX_BYTES)
    if not isinstance(settings, dict):
        raise UserError(f"{escaped(file)} must hold a JSON object of settings.")
    try:
        return from_dict(schema.Experiment, translated(settings))
    except UserError as error:
        raise UserError(f"{escaped(file)}: {error}") from None


def newer_version(versions: Any) -> str:
    """The version of birdnet_fs that wrote a file, where it is newer than this one.

    Args:
        versions: JSON value of a versions.json or of the key "versions" of another file, of any kind.

    Returns:
        The version, as "9.9.0"; "" for this version or an earlier one, and when there is no version.
    """
    written = versions.get("birdnet_fs") if isinstance(versions, dict) else None
    if not isinstance(written, str) or _release(written) <= _release(__version__):
        return ""
    return shown(written).strip("'")


def newer_sentence(place: Path, version: str) -> str:
    """A sentence that a newer version wrote a file or folder, and what to do; no period at its end."""
    return (
        f"{escaped(place)} was written by birdnet_fs {version}, and this is {__version__}; install birdnet_fs "
        f"{version} or newer to open it"
    )


def _refuse_newer(folder: Path) -> None:
    try:
        versions = read_json(folder / VERSIONS, "copy it again", max_bytes=MAX_BYTES)
    except UserError:
        return  # missing or damaged: the settings themselves are validated
    if version := newer_version(versions):
        raise UserError(f"{newer_sentence(folder, version)}.")


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version: (0, 10, 2) of "0.10.2"; () when it does not start with a number."""
    numbers = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()
