"""The ledger of a reading: every input row ends as exactly one of ok, partial, quarantined (reason)."""

import csv
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped

STATUSES = ("ok", "partial", "quarantined")
COLUMNS = ("path", "status", "reason", "flags", "duration_s", "source")


@dataclass(frozen=True)
class LedgerRow:
    """How one input ended."""

    path: str
    status: str  # ok, partial or quarantined
    reason: str = ""  # why it is not ok
    flags: tuple[str, ...] = ()
    duration_s: float = 0.0  # decoded length, 0 = not decoded
    source: str = ""  # where the input came from, as "metadata.csv row 12"

    @property
    def place(self) -> str:
        """The source and the path, for people; of a file that stands for itself the path alone."""
        path, source = escaped(self.path), escaped(self.source)
        return path if path.endswith(source) else f"{source}: {path}"


class Ledger:
    """One row per input, in the order of the input."""

    def __init__(self) -> None:
        self.rows: list[LedgerRow] = []

    def add(
        self,
        path: Path | str,
        status: str,
        reason: str = "",
        flags: Iterable[str] = (),
        duration_s: float = 0.0,
        source: str = "",
    ) -> None:
        """Record how one input ended.

        Args:
            path: The audio file, existing or not.
            status: "ok", "partial" (the front is used) or "quarantined" (not used; give the reason).
            reason: One sentence; required unless the status is "ok".
            flags: Short marks such as "silent" or "antiphase".
            duration_s: Decoded length in seconds, 0 when not decoded.
            source: Table and row number the input came from.

        Raises:
            ValueError: The status is not one of the three, or a reason is lacking.
        """
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}. Received: {status!r}")
        if status != "ok" and not reason:
            raise ValueError(f"status {status!r} needs a reason.")
        self.rows.append(LedgerRow(os.fspath(path), status, reason, tuple(flags), float(duration_s), source))

    def quarantine(self, path: Path | str, reason: str) -> None:
        """Turn every row of a file that proved unusable later on into quarantined."""
        name = os.fspath(path)
        self.rows = [
            replace(row, status="quarantined", reason=reason) if row.path == name else row for row in self.rows
        ]

    def counts(self) -> dict[str, int]:
        """Number of inputs by status; the three sum to the number of inputs.

        >>> ledger = Ledger()
        >>> ledger.add("a.wav", "ok")
        >>> ledger.counts()
        {'ok': 1, 'partial': 0, 'quarantined': 0}
        """
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES}

    def summary(self, limit: int = 5) -> str:
        """Counts, then the first `limit` inputs that are not ok with their reason, one a line."""
        counts = ", ".join(f"{n} {status}" for status, n in self.counts().items())
        bad = sorted((row for row in self.rows if row.status != "ok"), key=lambda r: r.status != "quarantined")
        lines = [f"{len(self.rows)} inputs: {counts}"]
        for row in bad[:limit]:
            lines.append(f"  {row.status}: {row.place}: {escaped(row.reason)}")
        if len(bad) > limit:
            lines.append(f"  ... and {len(bad) - limit} more")
        return "\n".join(lines)

    def write(self, csv_path: Path | str) -> None:
        """Write the rows as CSV (UTF-8), atomically; names with odd bytes are escaped."""
        with atomic_path(csv_path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for row in self.rows:
                cells = (row.path, row.status, row.reason, ";".join(row.flags), f"{row.duration_s:.3f}", row.source)
                writer.writerow([escaped(cell) for cell in cells])
