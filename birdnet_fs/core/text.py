"""Names from files, folders and tables as text that can be shown: on a terminal, in a table, on a page, in Markdown.

One rule for all of them (`escaped`); a target format that gives characters a meaning of its own adds its quoting on top
(`markdown` here, the autoescape of Jinja for HTML, the csv module for CSV). Escaping is for people: a name that is read
back, as a path in scores.csv or partition.csv, is written as the bytes it is (`errors="surrogateescape"`).
"""

import re

_MARKDOWN = re.compile(r"[\\`*_\[\]|]")


def escaped(value: object) -> str:
    r"""A value as one line of printable text.

    Control characters (line breaks, tabs, terminal escape sequences), invisible and direction-changing characters, and
    bytes that are not UTF-8 become their backslash escape; everything else stays, in any script.

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
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def escaped_lines(text: str) -> str:
    r"""Text of several lines, each `escaped`; the `\n` between them stay.

    Args:
        text: As for `escaped`.

    Returns:
        Valid UTF-8 of as many lines.

    >>> escaped_lines("1 quarantined:\n  a\x07.wav")
    '1 quarantined:\n  a\\x07.wav'
    """
    return "\n".join(escaped(line) for line in text.split("\n"))


def markdown(value: object) -> str:
    r"""`escaped`, with the characters that mean something in Markdown or HTML taken literally.

    Args:
        value: As for `escaped`.

    Returns:
        Markdown that renders as the escaped text.

    >>> markdown("Turdus_merula <b>")
    'Turdus\\_merula &lt;b>'
    """
    text = _MARKDOWN.sub(lambda found: "\\" + found.group(), escaped(value))
    return text.replace("&", "&amp;").replace("<", "&lt;")
