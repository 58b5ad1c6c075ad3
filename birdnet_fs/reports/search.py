"""The page of a search: spectrogram and sound of every result, in one file that opens without a network."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import soundfile

from birdnet_fs.core.text import escaped
from birdnet_fs.reports.pages.render import render
from birdnet_fs.reports.pages.spectrograms import Mark, clip_flac, clock, picture
from birdnet_fs.search.neighbors import FoundWindow
from birdnet_fs.search.results import MARGIN_S

PAGE, TEMPLATE = "page.html", "search.html"


def write_search_page(
    path: Path, *, title: str, found: Sequence[FoundWindow], clips: Sequence[str], folder: Path, table: str
) -> None:
    """Write the page of a search.

    Args:
        path: The HTML file; replaced whole.
        title: Title of the page.
        found: Results, best first.
        clips: Name of the clip of each result in `folder`; "" where there is none, and the row has no picture.
        folder: Folder of the clips.
        table: Name of the table of the results, whose column "label" is to be filled in.
    """
    pairs = enumerate(zip(found, clips, strict=True), 1)
    rows = [_row(rank, each, folder / clip if clip else None) for rank, (each, clip) in pairs]
    render(
        path,
        TEMPLATE,
        title=title,
        experiment=None,
        versions=None,
        rows=rows,
        table=escaped(table),
        margin_s=MARGIN_S,
        to_label=any(each.chosen_as for each in found),
    )


def _row(rank: int, found: FoundWindow, clip: Path | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rank": rank,
        "recording": escaped(found.recording),
        "start": clock(found.start_s),
        "end": clock(found.end_s),
        "score": "" if math.isnan(found.score) else f"{found.score:.3f}",
        "query": escaped(found.query),
        "chosen_as": found.chosen_as,
        "n_windows": found.n_windows,
        "picture": None,
    }
    if clip is None:
        return row
    waveform, rate = soundfile.read(clip, dtype="float32")
    before_s = min(found.start_s, MARGIN_S)
    marks = [Mark(before_s, before_s + found.end_s - found.start_s)]
    shown = picture(waveform, rate, start_s=found.start_s - before_s, marks=marks)
    return row | {"picture": shown, "sound": clip_flac(waveform, rate)}
