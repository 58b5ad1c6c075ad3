"""Files of a search: a table of the results with an empty column for labels, and clips with a margin to listen to.

A table whose labels are filled in is a table of labels: `data.table` of any experiment, or the support of
`birdnet-fs enroll`. Rows with an empty label are left out there, by name.
"""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import soundfile

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped
from birdnet_fs.data.tables.columns import SEARCH
from birdnet_fs.search.neighbors import FoundWindow

TABLE, NEXT_TABLE, CLIPS = "neighbors.csv", "next.csv", "clips"
COLUMNS = (*SEARCH[:-1], "chosen_as", "n_windows", "clip", SEARCH[-1])
MARGIN_S = 2.0
CLIP_RATE_HZ = 48_000


def refuse_labeled(path: Path) -> None:
    """Refuse to replace a table in which a person has filled in labels.

    Args:
        path: The table, existing or not.

    Raises:
        UserError: The table holds labels.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            n = sum(bool((row.get("label") or "").strip()) for row in csv.DictReader(file))
    except (OSError, csv.Error):
        return
    if n:
        raise UserError(
            f"{escaped(path)} holds labels in {n} rows; give another folder with -o, or --overwrite to replace it."
        )


def write_table(
    path: Path, found: Sequence[FoundWindow], clips: Sequence[str], *, recordings: Path | None = None
) -> None:
    """Write the results as CSV, atomically.

    Args:
        path: The file.
        found: Results, best first.
        clips: Name of the clip of each result, "" where it could not be cut.
        recordings: Folder of relative paths of recordings; recordings are then named relative to the folder of the
            table where they lie in it, else by their absolute path, so that the table can be read from there. Default:
            None, as in the store.
    """
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        for rank, (each, clip) in enumerate(zip(found, clips, strict=True), 1):
            place = each.recording if recordings is None else _named_from(path.parent, recordings / each.recording)
            score = "" if math.isnan(each.score) else f"{each.score:.4f}"
            times = (f"{each.start_s:.3f}", f"{each.end_s:.3f}")
            writer.writerow([rank, place, *times, score, each.query, each.chosen_as, each.n_windows, clip, ""])


def _named_from(folder: Path, recording: Path) -> str:
    """The path of a recording as it stands in a table in `folder`."""
    place = Path(os.path.abspath(recording))
    here = Path(os.path.abspath(folder))
    return place.relative_to(here).as_posix() if place.is_relative_to(here) else str(place)


def write_clips(folder: Path, found: Sequence[FoundWindow], root: Path) -> tuple[list[str], list[str]]:
    """Cut the clip of every result, with a margin of MARGIN_S seconds on both sides, as 16-bit WAV.

    Args:
        folder: Folder of the clips; created.
        found: Results, best first.
        root: Folder of relative paths of recordings.

    Returns:
        (names, problems): the file name of each clip, "" where its recording could not be read, and one sentence for
        each of these.
    """
    names, problems = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for rank, each in enumerate(found, 1):
        onset_s = max(0.0, each.start_s - MARGIN_S)
        try:
            audio = read_audio(
                root / each.recording,
                sample_rate_hz=CLIP_RATE_HZ,
                onset_s=onset_s,
                duration_s=each.end_s + MARGIN_S - onset_s,
            )
        except AudioError as error:
            names.append("")
            problems.append(f"{escaped(each.recording)} could not be cut: {error.reason}")
            continue
        stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in Path(each.recording).stem)[:80]
        name = f"{rank:04d}_{stem}_{each.start_s:.1f}s.wav"
        with atomic_path(folder / name) as part:
            soundfile.write(part, audio.waveform.clip(-1, 1), CLIP_RATE_HZ, subtype="PCM_16")
        names.append(name)
    return names, problems
