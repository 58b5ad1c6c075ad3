"""The ledger: the outcome of every input, exactly one of ok, partial and quarantined, with the reason."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped, mark_formula

STATUSES = ("ok", "partial", "quarantined")
COLUMNS = ("path", "status", "reason", "flags", "duration_s", "source")


@dataclass(frozen=True)
class LedgerRow:
    """The outcome of one input."""

    path: str
    status: str  # ok, partial or quarantined
    reason: str = ""  # why the status is not ok
    flags: tuple[str, ...] = ()
    duration_s: float = 0.0  # decoded length; 0 = not decoded
    source: str = ""  # table and row that name the input, as "metadata.csv row 12"

    @property
    def place(self) -> str:
        """The source and the path for messages; the path alone when it ends with the source."""
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
        """Record the outcome of one input.

        Args:
            path: The audio file, existing or not.
            status: "ok", "partial" (the part before the damage is used) or "quarantined" (not used).
            reason: One sentence; required unless the status is "ok".
            flags: Short words such as "silent" or "antiphase".
            duration_s: Decoded length in seconds; 0 = not decoded.
            source: Table and row number that name the input.

        Raises:
            ValueError: The status is not one of the three, or the reason is missing.
        """
        if status not in STATUSES:
            raise ValueError(f"status must be one of {', '.join(STATUSES)}. Received: {status!r}")
        if status != "ok" and not reason:
            raise ValueError(f"status {status!r} needs a reason.")
        self.rows.append(LedgerRow(os.fspath(path), status, reason, tuple(flags), float(duration_s), source))

    def quarantine(self, path: Path | str, reason: str) -> None:
        """Set every row of a file that cannot be used after all to quarantined."""
        name = os.fspath(path)
        self.rows = [
            replace(row, status="quarantined", reason=reason) if row.path == name else row for row in self.rows
        ]

    def counts(self) -> dict[str, int]:
        """Count inputs by status.

        >>> ledger = Ledger()
        >>> ledger.add("a.wav", "ok")
        >>> ledger.counts()
        {'ok': 1, 'partial': 0, 'quarantined': 0}
        """
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES}

    def summary(self, limit: int = 5) -> str:
        """Text with the counts and, one per line, the first `limit` inputs that are not ok with their reasons."""
        counts = ", ".join(f"{n} {status}" for status, n in self.counts().items())
        bad = sorted((row for row in self.rows if row.status != "ok"), key=lambda r: r.status != "quarantined")
        lines = [f"{len(self.rows)} inputs: {counts}"]
        for row in bad[:limit]:
            lines.append(f"  {row.status}: {row.place}: {escaped(row.reason)}")
        if len(bad) > limit:
            lines.append(f"  ... and {len(bad) - limit} more")
        return "\n".join(lines)

    def write(self, csv_path: Path | str) -> None:
        """Write the rows as CSV (UTF-8), atomically; bytes of names that are not UTF-8 are escaped."""
        with atomic_path(csv_path) as part, open(part, "w", encoding="utf-8", newline="") as file:
            writer = csv_writer(file)
            writer.writerow(COLUMNS)
            for row in self.rows:
                cells = (row.path, row.status, row.reason, ";".join(row.flags), f"{row.duration_s:.3f}", row.source)
                writer.writerow([mark_formula(escaped(cell)) for cell in cells])
