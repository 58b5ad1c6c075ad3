"""The table of all detections: detections.csv, and the same as Parquet."""

import contextlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from birdnet_fs.analysis.combined.clock_time import ClockTime
from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.resume import Outcome
from birdnet_fs.analysis.table_formats.text import recording_path, seconds, split_label
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped, mark_formula

DETECTIONS, PARQUET = "detections.csv", "detections.parquet"
COLUMNS = (
    "path",
    "start_s",
    "end_s",
    "start_time",
    "end_time",
    "label",
    "scientific_name",
    "common_name",
    "confidence",
)
_ROWS_OF_GROUP = 200_000


class Writer(Protocol):
    """Writes one table of all recordings."""

    def add(self, recording: RecordingDetections, outcome: Outcome, clock: ClockTime) -> None:
        """Add a recording, in the order of paths.

        Args:
            recording: Its detections and style.
            outcome: Its outcome, with its length.
            clock: Its start by the clock.
        """
        ...


def clock_text(time: datetime | None) -> str:
    """ISO 8601 to the millisecond, with the offset from UTC where it is known; "" for None."""
    return "" if time is None else time.isoformat(timespec="milliseconds")


def confidence_of(value: float, recording: RecordingDetections) -> float:
    """A confidence as it is written: with 4 decimals, or the 9 significant digits of float32."""
    return float(f"{value:.9g}") if recording.style.full_precision else round(value, 4)


def rows_of(recording: RecordingDetections, clock: ClockTime) -> Iterator[tuple[Any, ...]]:
    """Rows of one recording.

    Args:
        recording: Its detections.
        clock: Its start by the clock.

    Yields:
        Values in the order of COLUMNS: times in seconds and confidences as numbers, all others as text.
    """
    path = recording_path(recording)
    for each in recording.detections:
        yield (
            path,
            float(seconds(each.onset_s)),
            float(seconds(each.offset_s)),
            clock_text(clock.at(each.onset_s)),
            clock_text(clock.at(each.offset_s)),
            escaped(each.label),
            *split_label(each.label),
            confidence_of(each.confidence, recording),
        )


class CsvTable:
    """Writer of detections.csv.

    Args:
        file: Text file opened with newline="".
    """

    def __init__(self, file: Any) -> None:
        self._writer = csv_writer(file)
        self._writer.writerow(COLUMNS)

    def add(self, recording: RecordingDetections, outcome: Outcome, clock: ClockTime) -> None:
        """Add the rows of a recording.

        Args:
            recording: Its detections and style.
            outcome: Its outcome.
            clock: Its start by the clock.
        """
        self._writer.writerows([mark_formula(cell) for cell in row] for row in rows_of(recording, clock))


class ParquetTable:
    """Writer of detections.parquet: the rows of detections.csv, without marks on names that look like formulas.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow
        import pyarrow.parquet as pq

        numbers = {"start_s", "end_s", "confidence"}
        types = [(name, pyarrow.float64() if name in numbers else pyarrow.string()) for name in COLUMNS]
        self._schema, self._rows = pyarrow.schema(types), list[tuple[Any, ...]]()
        self._file = pq.ParquetWriter(path, self._schema)

    def add(self, recording: RecordingDetections, outcome: Outcome, clock: ClockTime) -> None:
        """Add the rows of a recording.

        Args:
            recording: Its detections and style.
            outcome: Its outcome.
            clock: Its start by the clock.
        """
        self._rows += rows_of(recording, clock)
        if len(self._rows) >= _ROWS_OF_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        columns = list(zip(*self._rows, strict=True)) or [()] * len(COLUMNS)
        self._file.write_table(pyarrow.table(dict(zip(COLUMNS, columns, strict=True)), schema=self._schema))
        self._rows = []

    def close(self) -> None:
        """Write what is left and the end of the file."""
        if self._rows:
            self._flush()
        self._file.close()


@contextlib.contextmanager
def csv_table(path: Path) -> Iterator[CsvTable]:
    """Open a CsvTable that replaces `path` when the block ends without an error; yields the writer."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", newline="") as file:
        yield CsvTable(file)


@contextlib.contextmanager
def parquet_table(path: Path) -> Iterator[ParquetTable]:
    """Open a ParquetTable that replaces `path` when the block ends without an error; yields the writer."""
    with atomic_path(path) as part:
        table = ParquetTable(part)
        try:
            yield table
        finally:
            table.close()
