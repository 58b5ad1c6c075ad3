"""The labels file: one line per class in model order, in the format of BirdNET and related programs.

The programs divide a line at `_`: BirdNET-Analyzer at the first one (scientific name, all the rest), BirdNET-Go at the
first two (scientific name, common name, species code), BirdNET-Pi takes the part before the first. A line therefore
holds one `_` only, between the two names, and spaces in place of those in the names, so that every program shows the
whole name. The names as they were trained are in the sidecar (`MODEL.json`).
"""

from collections.abc import Sequence

from birdnet_fs.core.class_names import check_class_names, scientific_and_common
from birdnet_fs.core.errors import UserError


def label_lines(classes: Sequence[str]) -> list[str]:
    """One `Scientific name_Common name` per class, in model order; a class without a second name is written twice.

    Args:
        classes: Class names in model order.

    Returns:
        The lines of the file, each with one `_`.

    Raises:
        UserError: A class name cannot be stored, or two classes have the same line.

    >>> label_lines(["Turdus merula_Common Blackbird", "noise", "lilac_breasted_roller"])
    ['Turdus merula_Common Blackbird', 'noise_noise', 'lilac breasted roller_lilac breasted roller']
    """
    check_class_names(classes)
    lines = ["_".join(_spaced(part) for part in _parts(name)) for name in classes]
    place = dict(zip(lines, classes, strict=True))
    for name, line in zip(classes, lines, strict=True):
        if place[line] != name:
            raise UserError(
                f"Classes must be different in the labels file; {line!r} stands for {name!r} and {place[line]!r}. "
                "Rename one of them."
            )
    return lines


def _parts(name: str) -> tuple[str, str]:
    """The two names; a name written twice (`Dog_Dog`), as BirdNET writes classes that are no species, is one name."""
    first, _, second = name.partition("_")
    return (first, second) if first and first == second else scientific_and_common(name)


def _spaced(name: str) -> str:
    return " ".join(name.replace("_", " ").split()) or name.replace("_", "-")
