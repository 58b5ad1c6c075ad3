"""The tables over all recordings of an output folder, made of the stored detections in one pass.

They hold the recordings of this call, whether they were scored now or earlier, and those of earlier calls with the same
model and settings whose file is still as it was; never one that was replaced, damaged or removed since. They are
removed before anything is scored, so that an interrupted call leaves none that is not true.
"""

import contextlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.analysis.combined import summary, tables
from birdnet_fs.analysis.combined.clock_time import recording_start
from birdnet_fs.analysis.combined.options import TableOptions
from birdnet_fs.analysis.detections import RecordingDetections
from birdnet_fs.analysis.resume import DONE, Outcome
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256, write_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import count, escaped

NAMES = (tables.DETECTIONS, tables.PARQUET, summary.SUMMARY, summary.ACTIVITY)
_RECORD = "combined"  # file in .done: SHA-256 of the tables by name, or _WRITING while they are written
_WRITING = {"writing": "tables"}


class FinishedRecording(NamedTuple):
    """Detections and outcome of a finished recording."""

    detections: RecordingDetections
    outcome: Outcome


def remove_combined(folder: Path, *, overwrite: bool) -> None:
    """Remove the tables over all recordings that an earlier call wrote.

    Args:
        folder: Output folder.
        overwrite: Whether tables are removed that were edited, or that something else wrote.

    Raises:
        UserError: There is such a table.
    """
    known = _read_record(folder)
    there = [name for name in NAMES if (folder / name).is_file()]
    for name in there:
        if not overwrite and known != _WRITING and sha256(folder / name) != known.get(name):
            raise UserError(
                f"{escaped(folder / name)} was changed since it was written, or something else wrote it; move it, give "
                "another folder with -o, or replace it with --overwrite."
            )
    for name in there:
        (folder / name).unlink()


def write_combined(folder: Path, recordings: Iterable[FinishedRecording], options: TableOptions) -> None:
    """Write the tables over all recordings.

    Args:
        folder: Output folder.
        recordings: Finished recordings in the order in which they are written.
        options: Formats, zones and style of the tables.
    """
    if not options.combined:
        return
    write_json(folder / DONE / _RECORD, _WRITING)
    counts, problems = summary.Summary(), list[tuple[Path, str]]()
    n_local = n = 0
    with contextlib.ExitStack() as stack:
        writers: list[tables.Writer] = []
        if "csv" in options.combined:
            writers.append(stack.enter_context(tables.csv_table(folder / tables.DETECTIONS)))
        if "parquet" in options.combined:
            writers.append(stack.enter_context(tables.parquet_table(folder / tables.PARQUET)))
        for detections, outcome in recordings:
            clock = recording_start(detections.path, options.zone, options.recorder_zone, outcome.flags)
            n, n_local = n + 1, n_local + (clock.start is not None and clock.start.tzinfo is None)
            if clock.problem:
                problems.append((detections.path, clock.problem))
            rows = tables.rows_of(detections, clock)
            for writer in writers:
                writer.add(rows)
            counts.add(detections, outcome, clock)
    counts.write(folder)
    record = {name: sha256(folder / name) for name in NAMES if (folder / name).is_file()}
    write_json(folder / DONE / _RECORD, record)
    _say_clocks(n, n_local, problems)


def _say_clocks(n: int, n_local: int, problems: list[tuple[Path, str]]) -> None:
    if n_local:
        say(
            f"{n_local} of {n} recordings have local times without a time zone, because neither their names nor their "
            "metadata state it; give it with --timezone, for example Europe/Zurich."
        )
    if problems:
        path, reason = problems[0]
        have = "has" if len(problems) == 1 else "have"
        first = f"the first, {escaped(path.name)}: {reason}"
        say(f"{len(problems)} of {count(n, 'recording')} {have} no clock times ({first}).")


def _read_record(folder: Path) -> dict[str, str]:
    try:
        found = json.loads((folder / DONE / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
