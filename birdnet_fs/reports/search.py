"""The page of a search: spectrogram and sound of every result, in one file that opens without a network."""

import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from birdnet_fs import schema
from birdnet_fs.core.text import escaped
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.reports.page import render
from birdnet_fs.reports.spectrograms import spectrogram_png
from birdnet_fs.search.neighbors import FoundWindow
from birdnet_fs.search.results import MARGIN_S

PAGE, TEMPLATE = "page.html", "search.html"
RANGE_DB = 60.0  # of the colors, below the loudest point of a picture
N_BANDS = 96


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
        "start": _clock(found.start_s),
        "end": _clock(found.end_s),
        "score": "" if math.isnan(found.score) else f"{found.score:.3f}",
        "query": escaped(found.query),
        "chosen_as": found.chosen_as,
        "n_windows": found.n_windows,
        "picture": "",
    }
    if clip is None:
        return row
    waveform, rate = soundfile.read(clip, dtype="float32")
    start_s = min(found.start_s, MARGIN_S)
    length_s = len(waveform) / rate
    ends = (start_s, min(start_s + found.end_s - found.start_s, length_s))
    left, right = (100 * min(max(each / length_s, 0.0), 1.0) for each in ends)
    return row | {"picture": _picture(waveform, rate), "sound": _sound(waveform, rate), "left": left, "right": right}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def _picture(waveform: np.ndarray, rate: int) -> str:
    """The spectrogram of a clip."""
    length = max(len(waveform), 2048)
    spec = schema.FrontEnd(
        sample_rate_hz=rate,
        segment_s=length / rate,
        n_fft=1024,
        win_length=1024,
        hop_length=512,
        n_mels=N_BANDS,
        fmin_hz=150.0,
        fmax_hz=min(15_000.0, rate / 2),
    )
    features = log_mel(np.pad(waveform, (0, length - len(waveform))), spec)[0]
    return spectrogram_png(features, features.max() - RANGE_DB, features.max())


def _sound(waveform: np.ndarray, rate: int) -> str:
    """The clip as FLAC, which every browser plays, in base64."""
    encoded = io.BytesIO()
    soundfile.write(encoded, waveform, rate, format="FLAC", subtype="PCM_16")
    return base64.b64encode(encoded.getvalue()).decode()
