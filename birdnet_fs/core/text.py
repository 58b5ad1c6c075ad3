"""Printable text from file names and table cells, for terminals, tables, HTML pages and Markdown.

`escaped` is the one rule for all of them; a format with special characters of its own adds its quoting on top
(`markdown` here, the autoescape of Jinja for HTML, the csv module for CSV). Escaped text is for display only: a name
that is read back, such as a path in scores.csv or partition.csv, keeps its bytes (`errors="surrogateescape"`).
"""

import re

_MARKDOWN = re.compile(r"[\\`*_\[\]|]")
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")  # the last four: full-width forms of the first
_JOINERS = "\u200c\u200d"
_FIRST = frozenset("'=+-@\uff1d\uff0b\uff0d\uff20")  # first characters of what _FORMULA matches
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def escaped(value: object) -> str:
    r"""Convert a value to one line of printable text.

    Control characters (line breaks, tabs, terminal escape sequences), invisible and direction-changing characters, and
    bytes that are not UTF-8 are replaced by backslash escapes; all other characters are kept, in any script, and so are
    the two joiners (U+200C, U+200D) that Persian and Hindi words and some emoji consist of.

    Args:
        value: A name, path or number; a string or path may hold surrogate escapes (bytes that are not UTF-8).

    Returns:
        Valid UTF-8 without line breaks.

    >>> escaped("a\tb\x1b[2J\n.wav")
    'a\\tb\\x1b[2J\\n.wav'
    >>> escaped("caf\udce9 鳥.wav")
    'caf\\udce9 鳥.wav'
    """
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _JOINERS else c.encode("unicode_escape").decode("ascii") for c in text)


def escaped_lines(text: str) -> str:
    r"""Apply `escaped` to every line of a text and keep the `\n` between them.

    Args:
        text: Any text; bytes that are not UTF-8 are surrogates.

    Returns:
        Valid UTF-8 with the same number of lines.

    >>> escaped_lines("1 quarantined:\n  a\x07.wav")
    '1 quarantined:\n  a\\x07.wav'
    """
    return "\n".join(escaped(line) for line in text.split("\n"))


def markdown(value: object) -> str:
    r"""Convert a value to printable Markdown, in which special characters of Markdown and HTML are literal.

    Args:
        value: Any value; its `str` is converted.

    Returns:
        Markdown that renders as the escaped text.

    >>> markdown("Turdus_merula <b>")
    'Turdus\\_merula &lt;b>'
    """
    text = _MARKDOWN.sub(lambda found: "\\" + found.group(), escaped(value))
    return text.replace("&", "&amp;").replace("<", "&lt;")


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun, in the singular for 1.

    Args:
        n: The number.
        one: The noun (and verb) for 1.
        many: The noun (and verb) for other numbers. Default: `one` with an s.

    Returns:
        The text, with commas in large numbers.

    >>> count(1, "clip"), count(1200, "recording has", "recordings have")
    ('1 clip', '1,200 recordings have')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def mark_formula(value: object) -> str:
    """Put an apostrophe in front of a cell that a spreadsheet program would calculate as a formula.

    All CSV tables of this package that hold names are written with it. Numbers are not changed. Tab-separated tables
    and the labels files of other programs (Raven, Audacity, BirdNET) are not marked, because those programs read names
    as they are.

    Args:
        value: A cell.

    Returns:
        Its text, with an apostrophe in front where it begins with `=`, `+`, `-` or `@` and is not a number.

    >>> mark_formula("=cmd()"), mark_formula("-1"), mark_formula("Turdus merula")
    ("'=cmd()", '-1', 'Turdus merula')
    """
    text = str(value)
    return f"'{text}" if text[:1] in _FIRST and _is_formula(text) else text


def unmark_formula(text: str) -> str:
    """Undo `mark_formula`.

    >>> unmark_formula(mark_formula("=cmd()")), unmark_formula(mark_formula("'=x"))
    ('=cmd()', "'=x")
    """
    return text[1:] if text[:1] == "'" and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)
