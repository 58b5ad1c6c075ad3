"""Errors written for people: one sentence that says what was expected, what was received and what to do.

Anything a user can cause is raised as `UserError` (or a subclass); the command line prints its
message without a traceback and exits with status 2. Everything else is a defect of ours.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A fault in what the user gave: settings, files, labels, arguments."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name closest to `name`, as `" Did you mean 'x'?"`, or `""` when nothing is close.

    >>> nearest("traning", ["training", "data"])
    " Did you mean 'training'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
