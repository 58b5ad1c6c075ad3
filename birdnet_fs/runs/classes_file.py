"""The `classes.txt` of a run or an ensemble: one class name per line, in model order."""

from pathlib import Path

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

MAX_CLASSES = 100_000  # nine times the species of birds
MAX_BYTES = 8_000_000


def read_classes(file: Path) -> tuple[str, ...]:
    """Read a `classes.txt`.

    Args:
        file: The file.

    Returns:
        Class names in model order.

    Raises:
        UserError: The file is not UTF-8 text of 1 to 100,000 lines, or a line occurs twice.
    """
    with open(file, "rb") as opened:
        data = opened.read(MAX_BYTES + 1)
    try:
        names = tuple(data.decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise UserError(f"{escaped(file)} must be UTF-8 text ({error}); copy the run again.") from None
    if len(data) > MAX_BYTES or len(names) > MAX_CLASSES:
        raise UserError(
            f"{escaped(file)} must name {MAX_CLASSES:,} classes or fewer, in {MAX_BYTES:,} bytes or fewer; copy the "
            "run again."
        )
    if not names or len(set(names)) != len(names):
        raise UserError(f"{escaped(file)} must name one or more classes, one per line, each once.")
    return names
