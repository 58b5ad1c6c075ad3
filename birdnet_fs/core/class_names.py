"""Class names: which ones can be used, their scientific and common parts, and names that are easily confused.

A class name is stored as it is written in the labels. It is a line of `classes.txt`, a column of the tables of scores,
a cell of `partition.csv` and of the tables of detections, and a line of the labels file of an exported network, so that
a name that one of them cannot hold is refused everywhere (`check_class_names`) instead of being changed somewhere.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

RESERVED = ("path", "onset_s", "offset_s", "duration_s", "start_s", "end_s", "group", "labels")  # columns beside scores
SEPARATOR = ";"  # between the labels of a cell
_REFUSED = ("Cc", "Cs", "Zl", "Zp")  # control characters, bytes that are not UTF-8, line and paragraph separators
_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder the text around them
_GENUS = re.compile(r"[^\W\d_]+(-[^\W\d_]+)?")
_EPITHET = re.compile(r"[^\W\d_][^\W_]*([-/'][^\W_]+)*\.?|×")


def class_name_problem(name: str) -> str:
    r"""Return why a name cannot be the name of a class.

    Args:
        name: The name.

    Returns:
        The end of the sentence "the name ...", or "" for a name that can be used.

    >>> class_name_problem("Owl, Barn"), class_name_problem("=cmd()"), class_name_problem("-1")
    ('', '', '')
    >>> class_name_problem("a;b")
    "contains ';', which separates labels"
    """
    if not name.strip():
        return "is empty"
    if any(unicodedata.category(c) in _REFUSED or c in _DIRECTIONS for c in name):
        return "contains a control character, a line break or bytes that are not UTF-8"
    if name != name.strip():
        return "begins or ends with a space"
    if SEPARATOR in name:
        return f"contains {SEPARATOR!r}, which separates labels"
    if name in RESERVED:
        return "is the name of a column of the tables of scores"
    return ""


def check_class_names(names: Sequence[str], where: str = "") -> None:
    """Refuse class names that cannot be stored or distinguished.

    Args:
        names: Class names.
        where: File that holds them, for the message. Default: none.

    Raises:
        UserError: A name is empty, is the name of a column of the tables of scores, begins or ends with a space, or
            contains `;` or a control character; or two names are the same, or are the same when they are printed.
    """
    place = f"{escaped(where)}: " if where else ""
    printed: dict[str, str] = {}
    for name in names:
        problem = class_name_problem(name)
        if problem:
            raise UserError(
                f"{place}Class names must be one line of printable text without {SEPARATOR!r}, and none of "
                f"{', '.join(RESERVED)}; rename the label {name!a}, which {problem}."
            )
        if escaped(name) in printed:
            raise UserError(
                f"{place}Class names must be different when they are printed; rename one of {printed[escaped(name)]!a} "
                f"and {name!a}."
            )
        printed[escaped(name)] = name


def scientific_and_common(label: str) -> tuple[str, str]:
    """Divide a class name into (scientific name, common name).

    `Scientific name_Common name` is divided at its first underscore where the part before it has the form of a
    scientific name (two to four words, the genus with a capital letter, the others without). Any other name is both
    names as a whole.

    Args:
        label: The class name.

    Returns:
        The two names.

    >>> scientific_and_common("Turdus merula_Eurasian Blackbird")
    ('Turdus merula', 'Eurasian Blackbird')
    >>> scientific_and_common("lilac_breasted_roller")
    ('lilac_breasted_roller', 'lilac_breasted_roller')
    >>> scientific_and_common("Turdus_merula")
    ('Turdus_merula', 'Turdus_merula')
    """
    scientific, _, common = label.partition("_")
    if common.strip() and is_scientific_name(scientific):
        return scientific, common
    return label, label


def is_scientific_name(text: str) -> bool:
    """Whether a text has the form of a scientific name of a species: two to four words, only the first capitalized.

    >>> is_scientific_name("Parus major"), is_scientific_name("Great Tit"), is_scientific_name("Parus")
    (True, False, False)
    """
    words = text.split(" ")
    genus, epithets = words[0], words[1:]
    return (
        1 <= len(epithets) <= 3
        and bool(_GENUS.fullmatch(genus))
        and genus[0].isupper()
        and genus[1:].islower()
        and all(_EPITHET.fullmatch(word) and word == word.lower() for word in epithets)
    )


def folded_name(name: str) -> str:
    """The name without case and Unicode normalization, with single spaces in place of spaces and underscores.

    >>> folded_name("Turdus_merula") == folded_name("turdus  Merula")
    True
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(text.replace("_", " ").split())


def similar_names(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of different names that differ only in case, spaces, underscores or Unicode normalization, sorted.

    >>> similar_names(["Wren", "owl", "wren", "Owl "])
    [('Owl ', 'owl'), ('Wren', 'wren')]
    """
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(folded_name(name).replace(" ", "") or name, set()).add(name)
    return sorted(tuple(sorted(group)) for group in groups.values() if len(group) > 1)
