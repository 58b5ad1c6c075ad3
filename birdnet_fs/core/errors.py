"""User errors: one sentence that says what was expected, what was received and what to do.

Anything that a user can cause is raised as `UserError` or a subclass of it. The command line prints the message
without a traceback and exits with status 2. Every other exception is a defect of this package.
"""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Invalid input from the user: settings, files, labels or arguments."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name closest to `name`.

    Args:
        name: The name received.
        known: The names accepted.

    Returns:
        `" Did you mean 'x'?"` with a leading space, or `""` when no known name is similar.

    >>> nearest("traning", ["training", "data"])
    " Did you mean 'training'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
