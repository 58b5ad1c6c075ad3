"""The `ensemble.json` of an ensemble: how scores are combined, and the SHA-256 of every file that affects a score."""

from pathlib import Path
from typing import Any

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import refuse_link
from birdnet_fs.core.json_file import read_json
from birdnet_fs.runs.config_file import MAX_BYTES, newer_sentence, newer_version
from birdnet_fs.runs.run import ENSEMBLE

FORMAT = 1
POSITIONS = "positions.safetensors"
MAX_MEMBERS = 1000  # each is a network in memory
AGAIN = "make the ensemble again with birdnet-fs ensemble"


def read_about(path: Path) -> dict[str, Any]:
    """Read the `ensemble.json` of a folder.

    Args:
        path: The folder.

    Returns:
        Its values, of which format, combine, power, members and POSITIONS are of the right type.

    Raises:
        UserError: There is no such file, a newer version wrote it, or it is damaged.
    """
    file = path / ENSEMBLE
    if not file.is_file():
        raise UserError(f"An ensemble folder with {ENSEMBLE} was expected at {path}; there is no such file.")
    refuse_link(file, path, AGAIN)
    about = read_json(file, AGAIN, max_bytes=MAX_BYTES)
    if newer := newer_version(about):
        raise UserError(f"{newer_sentence(file, newer)}.")
    kinds: dict[str, Any] = {"format": int, "combine": str, "power": (int, float), "members": list, POSITIONS: str}
    for key, kind in kinds.items():
        value = about.get(key) if isinstance(about, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UserError(f"{file}: {key!r} is missing or of the wrong type; {AGAIN}.")
    if about["format"] != FORMAT:
        raise UserError(
            f"{file}: 'format' must be {FORMAT}. Received: {about['format']}; this is birdnet_fs {__version__}: "
            f"install a newer version, or {AGAIN}."
        )
    if len(about["members"]) > MAX_MEMBERS:
        raise UserError(f"{file} must name {MAX_MEMBERS} members or fewer. Received: {len(about['members'])}")
    return about
