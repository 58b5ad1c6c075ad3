"""A time budget: what is left of it, when the work will end, and what would make it end in time."""

import re
import time
from collections.abc import Callable

from birdnet_fs.core.errors import UserError

N_MEASURED = 4  # recordings before the first estimate; the first one, in which libraries start, is not measured
EVERY = 0.1  # share of the recordings between estimates
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h)?", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_time(text: str) -> float:
    """Seconds of a time such as 90min, 1.5h or 5400s.

    Args:
        text: A number with the unit s, min or h; "" = no limit.

    Returns:
        Seconds above 0; infinity for "".

    Raises:
        UserError: The text is no such time.

    >>> parse_time("90min"), parse_time("1.5 h"), parse_time("")
    (5400.0, 5400.0, inf)
    """
    if not text:
        return float("inf")
    found = _TIME.fullmatch(text.strip())
    if not found or not found[2] or not float(found[1]):
        raise UserError(f"--time_budget must be a number above 0 with s, min or h, as 90min. Received: {text!r}")
    return float(found[1]) * _SECONDS[found[2].lower()]


class TimeBudget:
    """The time of a command that scores recordings one after another.

    Args:
        seconds: Length of the budget, from now; infinity = no limit.
        clock: Seconds that only grow. Default: `time.monotonic`.

    Attributes:
        n_recordings: Recordings to score.
        n_done: Recordings that are scored.
        reserve_s: Seconds that are kept for writing the file.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.n_recordings, self._clock = seconds, 0, clock
        self._start = self._marked = clock()
        self.n_done = self._n_marked = self._n_estimated = 0
        self.reserve_s = 0.01 * seconds if seconds < float("inf") else 0.0

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def left_s(self) -> float:
        """Seconds that are left for scoring; `reserve_s` is kept for writing."""
        return self.seconds - self.reserve_s - self.spent_s

    @property
    def per_recording_s(self) -> float:
        """Seconds per recording since the last `restart`, whose first recording is not counted; 0 = not known yet."""
        n = self.n_done - self._n_marked
        return (self._clock() - self._marked) / n if n > 0 and self._n_marked else 0.0

    def done(self) -> bool:
        """Count a recording; returns whether it is time for an estimate."""
        self.n_done += 1
        if not self._n_marked:
            self._n_marked, self._marked = self.n_done, self._clock()
        due = N_MEASURED if not self._n_estimated else self._n_estimated + max(1, round(EVERY * self.n_recordings))
        if self.n_done < due or self.n_done >= self.n_recordings or not self.per_recording_s:
            return False
        self._n_estimated = self.n_done
        return True

    def restart(self) -> None:
        """Discard the measured speed, because the work has changed."""
        self._n_marked, self._n_estimated = 0, self.n_done

    def written(self, seconds: float) -> None:
        """Keep room for writing the file once more; it took `seconds`."""
        self.reserve_s = max(self.reserve_s, 2 * seconds)

    @property
    def expected_s(self) -> float:
        """Expected length of the whole work in seconds, by the measured speed."""
        return self.spent_s + self.per_recording_s * (self.n_recordings - self.n_done)

    @property
    def too_slow_by(self) -> float:
        """Ratio of the expected time of the rest to the time left; at most 1 = it ends in time."""
        left = max(self.left_s, 1e-9)
        return self.per_recording_s * (self.n_recordings - self.n_done) / left

    @property
    def n_in_time(self) -> int:
        """Recordings that can be scored within the budget at the measured speed, those that are done included."""
        more = self.left_s / self.per_recording_s if self.per_recording_s else 0
        return min(self.n_recordings, self.n_done + max(0, int(more)))


def shown_time(seconds: float) -> str:
    """A time for messages.

    >>> shown_time(42.4), shown_time(5400)
    ('42 s', '90 min')
    """
    return f"{seconds:.0f} s" if seconds < 180 else f"{seconds / 60:.0f} min"
