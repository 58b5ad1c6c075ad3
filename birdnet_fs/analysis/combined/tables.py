"""The table of all detections: detections.csv, and the same as Parquet."""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from birdnet_fs.analysis.combined.clock_time import ClockTime
from birdnet_fs.analysis.detections import RecordingDetections
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

Row = tuple[Any, ...]


class Writer(Protocol):
    """Writes the table of all detections."""

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of a recording, from `rows_of`, in the order of paths."""
        ...


def clock_text(time: datetime | None) -> str:
    """ISO 8601 to the millisecond, with the offset from UTC where it is known; "" for None."""
    return "" if time is None else time.isoformat(timespec="milliseconds")


def confidence_of(value: float, recording: RecordingDetections) -> float:
    """A confidence as it is written: with 4 decimals, or the 9 significant digits of float32."""
    return float(f"{value:.9g}") if recording.style.full_precision else round(value, 4)


def rows_of(recording: RecordingDetections, clock: ClockTime) -> list[Row]:
    """Rows of one recording.

    Args:
        recording: Detections of the recording.
        clock: Start of the recording by the clock.

    Returns:
        Values in the order of COLUMNS: times in seconds and confidences as numbers, all others as text.
    """
    path = recording_path(recording)
    return [
        (
            path,
            float(seconds(each.onset_s)),
            float(seconds(each.offset_s)),
            clock_text(clock.at(each.onset_s)),
            clock_text(clock.at(each.offset_s)),
            *_names(each.label),
            confidence_of(each.confidence, recording),
        )
        for each in recording.detections
    ]


@functools.lru_cache(maxsize=16_384)
def _names(label: str) -> tuple[str, str, str]:
    """Class name, scientific and common name as printable text."""
    return (escaped(label), *split_label(label))


@functools.lru_cache(maxsize=16_384)
def _marked(text: str) -> str:
    return mark_formula(text)


class CsvTable:
    """Writer of detections.csv.

    Args:
        file: Text file opened with newline="".
    """

    def __init__(self, file: Any) -> None:
        self._writer = csv_writer(file)
        self._writer.writerow(COLUMNS)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of a recording, from `rows_of`."""
        self._writer.writerows(
            (_marked(path), *times, *map(_marked, names), confidence)
            for path, *times, label, scientific, common, confidence in rows
            for names in ((label, scientific, common),)
        )


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
        self._schema, self._rows = pyarrow.schema(types), list[Row]()
        self._file = pq.ParquetWriter(path, self._schema)

    def add(self, rows: Sequence[Row]) -> None:
        """Add the rows of a recording, from `rows_of`."""
        self._rows += rows
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
