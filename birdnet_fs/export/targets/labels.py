"""The labels file: one line per class in model order, in the format of BirdNET and related programs."""

from collections.abc import Sequence

from birdnet_fs.core.errors import UserError


def label_lines(classes: Sequence[str]) -> list[str]:
    """One `Scientific name_Common name` per class, in model order; a class without `_` is written twice.

    Args:
        classes: Class names in model order.

    Returns:
        The lines of the file.

    Raises:
        UserError: A name is empty, holds a line break, or two classes have the same line.

    >>> label_lines(["Turdus merula_Common Blackbird", "noise"])
    ['Turdus merula_Common Blackbird', 'noise_noise']
    """
    lines = [name if "_" in name else f"{name}_{name}" for name in classes]
    for name, line in zip(classes, lines, strict=True):
        if not name.strip() or name.splitlines() != [name]:
            raise UserError(f"A class must be one line of text in the labels file. Received: {name!r}")
        if lines.count(line) > 1:
            raise UserError(f"Classes must be different in the labels file; {line!r} occurs twice. Rename one.")
    return lines
