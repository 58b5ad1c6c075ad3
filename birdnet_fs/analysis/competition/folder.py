"""The folder of a BirdCLEF competition: which rows it asks for, and which recordings are there.

Rows come from the table of the competition. The sample_submission.csv of a notebook competition may be a stub of a few
rows while the recordings of the test are there only when the notebook is scored; the rows are then those of the
recordings. Without recordings, as in the notebook's own run before it is submitted, the rows are those of the sample.

Sources: https://www.kaggle.com/competitions/birdclef-2022/data (1 minute, long form),
https://www.kaggle.com/competitions/birdclef-2024/data (4 minutes), and
https://www.kaggle.com/competitions/birdclef-2025/data (1 minute, about 700 recordings).
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from birdnet_fs.analysis.competition.rows import SubmissionRows, Window, read_submission_rows
from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.find import find_audio
from birdnet_fs.audio.read import duration_s
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables.reading import open_table

TABLES = ("test.csv", "sample_submission.csv")
AUDIO = "test_soundscapes"
WINDOW_S = 5  # length of the windows of every BirdCLEF competition
ROWS = ("auto", "sample", "recordings")


class Competition(NamedTuple):
    """Rules in which the competitions differ."""

    layout: str  # of the submission, "wide" or "long"
    recording_s: int  # length of the recordings of the test


COMPETITIONS: Mapping[str, Competition] = {
    "birdclef2025": Competition("wide", 60),
    "birdclef2024": Competition("wide", 240),
    "birdclef2022": Competition("long", 60),
}


@dataclass(frozen=True)
class Recordings:
    """The recordings of a folder by their name without extension.

    Attributes:
        folder: The folder.
        paths: Path by name, of names that are there once.
        n_equal: Number of recordings by name, of names that are there several times.
    """

    folder: Path
    paths: Mapping[str, Path]
    n_equal: Mapping[str, int]

    def why_not(self, name: str) -> str:
        """Reason for a recording of this name that cannot be read."""
        n = self.n_equal.get(name, 0)
        return escaped(f"{n} recordings are called {name}." if n else f"there is no recording called {name}.")


@dataclass(frozen=True)
class CompetitionTest:
    """Rows and recordings to score.

    Attributes:
        rows: The rows of the submission.
        recordings: The recordings.
        notes: Sentences for the user about where the rows come from.
    """

    rows: SubmissionRows
    recordings: Recordings
    notes: tuple[str, ...]


def check_competition(name: str) -> Competition:
    """The competition of a name.

    Args:
        name: A key of COMPETITIONS, with or without "birdclef".

    Returns:
        The competition.

    Raises:
        UserError: There is none of that name.

    >>> check_competition("2025")
    Competition(layout='wide', recording_s=60)
    """
    known = name if name in COMPETITIONS else f"birdclef{name}"
    if known not in COMPETITIONS:
        raise UserError(
            f"--competition must be one of {', '.join(COMPETITIONS)}.{nearest(name, COMPETITIONS)} Received: {name!r}"
        )
    return COMPETITIONS[known]


def competition_table(root: Path) -> Path:
    """The table of a competition folder that names the rows of a submission.

    Args:
        root: The folder.

    Returns:
        test.csv where it has the column `bird`, as in the long form, or is alone, else sample_submission.csv.

    Raises:
        UserError: The folder holds neither table.
    """
    there = [root / name for name in TABLES if (root / name).is_file()]
    if not there:
        raise UserError(f"{escaped(root)} must have {' or '.join(TABLES)}; it has neither.")
    for path in there[:-1]:
        if "bird" in open_table(path, []).columns:
            return path
    return there[-1]


def audio_folder(root: Path) -> Path:
    """The folder of the test recordings: test_soundscapes where it is there, else the folder itself."""
    return root / AUDIO if (root / AUDIO).is_dir() else root


def recordings_by_name(folder: Path) -> Recordings:
    """Find the recordings below a folder.

    Args:
        folder: The folder.

    Returns:
        The recordings; none where the folder holds none.
    """
    found: dict[str, list[Path]] = {}
    for path in find_audio(folder).paths:
        found.setdefault(path.stem, []).append(path)
    once = {name: paths[0] for name, paths in found.items() if len(paths) == 1}
    return Recordings(folder, once, {name: len(paths) for name, paths in found.items() if len(paths) > 1})


def read_competition(
    root: Path, competition: Competition, *, audio: Path | None = None, rows: str = "auto"
) -> CompetitionTest:
    """Find the rows and the recordings of a competition folder.

    Args:
        root: Folder with the table of the competition.
        competition: The competition.
        audio: Folder of the recordings. Default: test_soundscapes of `root`.
        rows: "sample": the rows of the table. "recordings" (wide form): those of the recordings, every WINDOW_S up to
            the length that the competition states, or further for a longer recording. "auto" (default): those of the
            table; where recordings are there that it does not name, also those of these, and without the rows of
            recordings that are not there if it names none that is there (a stub).

    Returns:
        Rows and recordings.

    Raises:
        UserError: There is no table, or it is of another form than that of the competition, a row does not end at a
            multiple of WINDOW_S, or `rows` is none of ROWS or asks for rows that cannot be had.
    """
    if rows not in ROWS:
        raise UserError(f"--rows must be one of {', '.join(ROWS)}.{nearest(rows, ROWS)} Received: {rows!r}")
    path = competition_table(root)
    asked = read_submission_rows(path)
    if asked.layout != competition.layout:
        expected = (
            "test.csv with row_id, file_id, bird and end_time"
            if competition.layout == "long"
            else ("sample_submission.csv with row_id and one column per class")
        )
        raise UserError(f"This competition has {expected}. Received: {escaped(path)}; check --competition.")
    odd = next((window for window in asked.windows if window[1] % WINDOW_S), None)
    if odd:
        raise UserError(
            f"{escaped(path)} must have windows that end at multiples of {WINDOW_S} s. Received: {escaped(odd[0])} at "
            f"{odd[1]} s"
        )
    there = recordings_by_name(audio or audio_folder(root))
    names = sorted({*there.paths, *there.n_equal})
    if not names:
        if rows == "recordings":
            raise UserError(f"--rows recordings needs recordings; there are none in {escaped(there.folder)}.")
        note = (
            f"There are no recordings in {escaped(there.folder)}, as in a notebook's run before it is submitted: the "
            f"{len(asked.row_ids)} rows of {escaped(path.name)} are written without scores."
        )
        return CompetitionTest(asked, there, (note,))
    named = {name for name, _ in asked.windows}
    others = [name for name in names if name not in named]
    if rows == "sample" or competition.layout == "long" or (rows == "auto" and not others):
        notes = (f"{len(others)} recordings are not in {escaped(path.name)} and are not scored.",) if others else ()
        return CompetitionTest(asked, there, notes)
    kept = asked if rows == "auto" and len(others) < len(names) else _without_rows(asked)
    new = others if kept.row_ids else names
    note = f"{len(new)} recordings are not in {escaped(path.name)}; their rows are every {WINDOW_S} s."
    if not kept.row_ids:
        note = (
            f"The rows are those of {len(new)} recordings, every {WINDOW_S} s; the {len(asked.row_ids)} rows of "
            f"{escaped(path.name)} are left out."
        )
    return CompetitionTest(_with_rows(kept, there, new, competition.recording_s), there, (note,))


def _without_rows(rows: SubmissionRows) -> SubmissionRows:
    return replace(rows, row_ids=(), windows=())


def _with_rows(rows: SubmissionRows, there: Recordings, names: list[str], recording_s: int) -> SubmissionRows:
    """Add rows of recordings."""
    windows = list[Window]()
    for name in names:
        length_s = float(recording_s)
        if path := there.paths.get(name):
            with contextlib.suppress(AudioError):
                length_s = max(length_s, duration_s(path))
        windows += [(name, end) for end in range(WINDOW_S, int(length_s) + 1, WINDOW_S)]
    ids = [f"{name}_{end}" for name, end in windows]
    return replace(rows, row_ids=(*rows.row_ids, *ids), windows=(*rows.windows, *windows))
