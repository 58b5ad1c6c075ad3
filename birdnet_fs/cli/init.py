"""`birdnet-fs init`: write an example config.py."""

from pathlib import Path
from typing import Annotated

import typer

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_text


def init(
    folder: Annotated[Path, typer.Argument(help="Folder for config.py.")] = Path("."),
) -> None:
    """Write a config.py with example experiments."""
    path = folder / "config.py"
    if path.exists():
        raise UserError(f"{path} exists already and was not changed; move it or give another folder.")
    write_text(path, (Path(__file__).parent / "starter.py").read_text(encoding="utf-8"))
    print(f"wrote {path}; next: birdnet-fs train {path}:my_recordings data.root=FOLDER_WITH_ONE_FOLDER_PER_SPECIES")
