"""Labels in one cell of a table: lists in every usual form, words for "no class", and what a missing label is.

- A cell is text. `nan`, `None`, `0123`, `1e5` and `=cmd()` are labels like any other; only an empty cell is a missing
  label. Names that look like a missing value are pointed out (`label_notes`).
- `[...]`, `{...}`, `('a', 'b')` and `array([...])` are lists, as Python, NumPy (without commas), JSON and databases
  write them. `nan` and `None` without quotes are missing values in them, and left out. An empty list means that no
  class is present.
- With data.multi_label, text without brackets is divided at `;`, and at other characters only where the layout defines
  them. Otherwise it is one label.
- Words such as noise or nocall (`NO_CALL`) mean that no class is present, unless data.noise_label=class.
"""

import ast
import functools
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from birdnet_fs.core.class_names import SEPARATOR, similar_names
from birdnet_fs.core.text import escaped
from birdnet_fs.schema import Data

NO_CALL = frozenset({"noise", "nocall", "no_call", "no call", "no-call", "background", "nothing", "empty"})
MISSING = frozenset({"nan", "none", "null", "na", "n/a", "<na>", "#n/a"})  # as programs write a missing value
MAX_LIST = 20_000  # characters of a list in a cell
_CONSTRUCTOR = re.compile(
    r"(?:(?:np|numpy|pd|pandas)\.)?(?:array|frozenset|set|list|tuple|Index|Series)\((?P<body>.*?)"
    r"(?:,\s*(?:dtype|name)\s*=.*)?\)",
    re.DOTALL,
)
# a quoted item ends at a quote before a separator or the next item, so that 'Wilson's Warbler' is one item
_QUOTED = re.compile(
    r"(?:(?:np|numpy)\.str_\(|[rub])?(?P<item>'(?:\\.|[^\\])*?'|\"(?:\\.|[^\\])*?\")\)?(?=\s*(?:[,;]|$)|\s+(?:['\"]|\.\.\.))",
    re.DOTALL,
)
_GAP = re.compile(r"[\s,;]*")
_BARE = re.compile(r"[^,;]*")


class CellLabels(NamedTuple):
    """The labels of a cell.

    Attributes:
        labels: The labels, each once, without words of NO_CALL where those mean that no class is present.
        labeled: False where the cell states that no class is present.
        problem: Reason for a cell that cannot be used, or "".
    """

    labels: tuple[str, ...]
    labeled: bool = True
    problem: str = ""


def cell_labels(cell: str, data: Data, separators: str = SEPARATOR) -> CellLabels:
    """Read the labels of a cell.

    Args:
        cell: Text of the cell.
        data: Settings: `multi_label`, `noise_label`.
        separators: Characters that divide text without brackets with `data.multi_label`. Default: ";".

    Returns:
        The labels, whether the cell holds any by intention, and its problem.
    """
    if not cell.strip():
        return CellLabels(())
    try:
        names = parse_labels(cell, separators if data.multi_label else "")
    except ValueError as error:
        return CellLabels((), problem=str(error))
    kept = tuple(name for name in names if not is_no_call(name, data))
    if len(kept) > 1 and not data.multi_label:
        shown = ", ".join(map(repr, kept[:3]))
        return CellLabels((), problem=f"it has {len(kept)} labels ({shown}); set data.multi_label=true to use them.")
    return CellLabels(kept, labeled=bool(kept) or not (names or _is_empty_list(cell)))


def list_labels(
    cell: str, data: Data, separators: str = SEPARATOR, *, missing: frozenset[str] = frozenset()
) -> CellLabels:
    """Read a cell that holds any number of labels, whatever `data.multi_label` is.

    Args:
        cell: Text of the cell.
        data: Settings: `noise_label`.
        separators: Characters that divide text without brackets. Default: ";".
        missing: Texts in lower case that stand for an empty cell. Default: none.

    Returns:
        The labels and the problem of the cell.
    """
    if cell.strip().lower() in missing:
        return CellLabels(())
    try:
        names = parse_labels(cell, separators)
    except ValueError as error:
        return CellLabels((), problem=str(error))
    return CellLabels(tuple(name for name in names if not is_no_call(name, data)))


def is_no_call(label: str, data: Data) -> bool:
    """Whether a label means that no class is present: a word of NO_CALL, unless data.noise_label=class."""
    return data.noise_label == "negative" and label.lower() in NO_CALL


@functools.lru_cache(maxsize=4096)
def parse_labels(cell: str, separators: str = SEPARATOR) -> tuple[str, ...]:
    """Labels of a cell as they are written, each once.

    Args:
        cell: Text of the cell.
        separators: Characters that divide text without brackets; "" = it is one label, and only brackets around
            nothing or around quotes are a list. Default: ";".

    Returns:
        The labels; () for an empty cell or list.

    Raises:
        ValueError: A list is damaged; the message is the end of a sentence about a row.

    >>> parse_labels("a;b"), parse_labels("['a' 'b']"), parse_labels("[0123, nan]"), parse_labels("Owl, Barn")
    (('a', 'b'), ('a', 'b'), ('0123',), ('Owl, Barn',))
    """
    body = _list_body(cell)
    if body is not None and (separators or body[:1] in ("", "'", '"')):
        found = [item for item in _items(body, cell) if item is not None]
    elif separators:
        found = [_unquoted(part) for part in re.split(f"[{re.escape(separators)}]", cell)]
    else:
        found = [cell]
    named = (name.strip() for name in found)
    return tuple(dict.fromkeys(name for name in named if name))


def format_labels(labels: Sequence[str]) -> str:
    """Cell that `parse_labels` reads back as the same labels: separated by `;`, else a Python list.

    >>> format_labels(["a", "b"]), format_labels(["a;b"])
    ('a;b', "['a;b']")
    """
    labels = tuple(labels)
    plain = SEPARATOR.join(labels)
    try:
        return plain if parse_labels(plain) == labels else repr(list(labels))
    except ValueError:
        return repr(list(labels))


def label_notes(counts: Mapping[str, int], decomposed: Iterable[str] = (), *, table: bool) -> list[str]:
    """Remarks on labels that may not be what was meant.

    Args:
        counts: Clips of each label.
        decomposed: Labels that were written with separate accents (not NFC). Default: none.
        table: Whether the labels are cells of a table.

    Returns:
        One sentence for each group of names that differ in case, spaces, underscores or compatibility characters only,
        for labels in another Unicode normalization, for names that look like a missing value, and for names in a table
        that may be several labels.
    """
    notes = []
    for group in similar_names(counts):
        shown = ", ".join(f"{_shown(name)} ({counts[name]})" for name in group)
        notes.append(
            f"{len(group)} labels differ only in case, spaces, underscores or Unicode normalization and are different "
            f"classes: {shown} clips."
        )
    if written := sorted(decomposed):
        notes.append(
            "Labels written in another Unicode normalization are read in the composed form (NFC), the same text: "
            f"{len(written)} (the first: {written[0]!a} is {_shown(unicodedata.normalize('NFC', written[0]))})."
        )
    for name in counts:
        if name.lower() in MISSING:
            notes.append(
                f"The label {_shown(name)} of {counts[name]} clips is a class name; only empty cells have none."
            )
    many = [name for name in counts if table and re.search(r"[,|]", name)]
    if many:
        total = sum(counts[name] for name in many)
        notes.append(
            f"{len(many)} labels of {total} clips contain a comma or '|' and are one label each, as {_shown(many[0])}; "
            "several labels in a cell are separated by ';' or written as a list (data.multi_label=true)."
        )
    return notes


def _shown(name: str) -> str:
    r"""A name in quotes; letters whose accents are separate characters are shown by their code points."""
    return f"'{escaped(name)}'" if unicodedata.is_normalized("NFC", name) else ascii(name)


def _list_body(cell: str) -> str | None:
    """The text between the brackets of a list; None for a cell that is no list."""
    text = cell.strip()
    constructor = _CONSTRUCTOR.fullmatch(text)
    if constructor:
        text = constructor["body"].strip()
        if not text:
            return ""
    for start, end in ("[]", "{}", "()"):
        inner = text[1:-1].strip()
        if text[:1] != start:
            continue
        quoted = text[1:].lstrip()[:1] in ("'", '"')
        if len(text) > 1 and text.endswith(end) and (start != "(" or quoted or not inner):
            if len(inner) > MAX_LIST:
                raise ValueError(f"its list of labels must have at most {MAX_LIST:,} characters.")
            return inner
        if quoted and len(text) > 2:
            raise ValueError(f"its list of labels has no end. Received: {escaped(text[:60])!r}")
    return None


def _items(body: str, cell: str) -> list[str | None]:
    """Items of the body of a list; None for a missing value."""
    found: list[str | None] = []
    place = _end_of(_GAP, body, 0)
    while place < len(body):
        quoted = _QUOTED.match(body, place)
        if quoted:
            found.append(_literal(quoted["item"]))
            place = quoted.end()
        else:
            start, place = place, _end_of(_BARE, body, place)
            item = body[start:place].strip()
            if "..." in item or set(item) & set("[]{}") or item[:1] in ("'", '"'):
                raise ValueError(f"its list of labels is damaged or cut off. Received: {escaped(cell.strip()[:60])!r}")
            found.append(None if item.lower() in MISSING else item)
        place = _end_of(_GAP, body, place)
    return found


def _end_of(pattern: re.Pattern[str], text: str, start: int) -> int:
    """End of a pattern that begins at `start`; `start` where it does not begin there."""
    match = pattern.match(text, start)
    return match.end() if match else start


def _literal(text: str) -> str:
    """Text of a quoted item, its escapes read as JSON or Python writes them."""
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(value, str):
            return value
    return text[1:-1]


def _unquoted(part: str) -> str:
    """A part of a cell without a pair of quotes around it."""
    part = part.strip()
    quote = part[:1]
    if quote in ("'", '"') and len(part) > 2 and part.endswith(quote) and quote not in part[1:-1]:
        return part[1:-1]
    return part


def _is_empty_list(cell: str) -> bool:
    """Whether a cell is a list without items; one of missing values is not."""
    body = _list_body(cell)
    return body is not None and None not in _items(body, cell)
