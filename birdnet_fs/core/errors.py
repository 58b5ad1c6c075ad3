"""User errors: one sentence with the expected value, the received value and the remedy.

Anything that a user can cause is raised as `UserError` or a subclass of it. The command line prints the message
without a traceback and exits with status 2. Every other exception is a defect of this package.
"""

import difflib
import reprlib
from collections.abc import Iterable


class UserError(ValueError):
    """Invalid input from the user: settings, files, labels or arguments."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxtuple, _SHORT.maxlist, _SHORT.maxdict = 4, 20, 20, 8
_SHORT.maxstring = _SHORT.maxother = 200


def shown(value: object) -> str:
    """Format a value that was received for a message, at most about 200 characters of each text in it.

    Args:
        value: Any value, also one of megabytes.

    Returns:
        Its `repr`, shortened.

    >>> len(shown("a" * 1000)), shown([1, 2])
    (200, '[1, 2]')
    >>> shown(1 << 100_000)
    'a whole number of 100,001 bits'
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a whole number of {value.bit_length():,} bits"  # repr refuses more than 4,300 digits
    return _SHORT.repr(value)


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
