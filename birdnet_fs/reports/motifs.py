"""Pages of mined recordings: a recording with its motifs marked and its matrix profile, and the motifs of a class.

Each is one file that opens without a network, with a picture and a sound of every clip.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.motifs.matrix_profile import MatrixProfile
from birdnet_fs.motifs.mined_folder import MinedRecording, mined_recordings, recordings_root
from birdnet_fs.motifs.motif_clips import pairs_of
from birdnet_fs.reports.pages.render import render
from birdnet_fs.reports.pages.spectrograms import Mark, clip_flac, clock, picture

TEMPLATE = "motifs.html"
RATE_HZ = 32_000
MARGIN_S = 0.5  # before and after the window of a clip
MAX_COLUMNS = 2000  # of the picture of a whole recording
MAX_SOUND_S = 120.0  # longer recordings have the sounds of their clips only
PROFILE_HEIGHT = 100.0
COLORS = ("#7fd1ff", "#ffd27f", "#a6f0a0", "#ff9fb2")


def write_pages(
    folder: Path, output: Path, *, recordings: Path | None = None, limit: int = 20, n_motifs: int = 3
) -> tuple[int, int]:
    """Write `output/recordings/NAME.html` for recordings and `output/classes/LABEL.html` for classes.

    Args:
        folder: Output of `birdnet-fs motifs extract`.
        output: Folder of the pages.
        recordings: Folder of the recordings. Default: None, where they were.
        limit: Most recordings with a page, and on the page of a class: the first by name. Default: 20.
        n_motifs: Number of motifs of each recording. Default: 3.

    Returns:
        Numbers of pages of recordings and of classes. Recordings that cannot be read are left out, by name on stderr.
        UserErrors of `mined_recordings` and `recordings_root` are passed on.
    """
    root, found = recordings_root(folder, recordings), list(mined_recordings(folder))
    n_pages, classes = 0, defaultdict[str, list[MinedRecording]](list)
    for each in track(found[:limit], "pages", unit="page"):
        place = output / "recordings" / each.folder.relative_to(folder)
        try:
            write_recording_page(place.with_name(f"{place.name}.html"), each, root, n_motifs=n_motifs)
            n_pages += 1
        except AudioError as error:
            say(f"{escaped(each.source_name)} has no page: {error.reason}")
        except UserError as error:  # its matrix profile is damaged
            say(f"{escaped(each.source_name)} has no page: {error}")
    for each in found:
        if each.label and len(classes[each.label]) < limit:
            classes[each.label].append(each)
    for label, members in track(classes.items(), "classes", total=len(classes), unit="page"):
        write_class_page(output / "classes" / f"{label}.html", label, members, root)
    return n_pages, len(classes)


def write_recording_page(path: Path, recording: MinedRecording, root: Path, *, n_motifs: int = 3) -> None:
    """Write the page of a recording: spectrogram, marks, matrix profile, and the two clips of each pair.

    AudioError is raised as in `read_audio`.

    Args:
        path: The HTML file; replaced whole.
        recording: A mined recording.
        root: Folder of the recordings.
        n_motifs: Number of motifs. Default: 3.
    """
    waveform = read_audio(root / recording.source_name, sample_rate_hz=RATE_HZ).waveform
    length_s, window_s = len(waveform) / RATE_HZ, recording.window_s
    windows = list(pairs_of(recording, n_motifs))
    mean = float(recording.metadata["mean_distance"])
    marks, rows = [], list[dict[str, Any]]()
    for name, frame, distance in windows:
        start_s, base = frame / recording.frames_per_s, name.removesuffix(".pair")
        if name == base:
            share = f", {distance / mean:.2f} of the mean distance" if mean else ""
            rows.append({"title": _title(base), "note": f"distance {distance:.3g}{share}", "clips": []})
        color = COLORS[(len(rows) - 1) % len(COLORS)]
        marks.append(Mark(start_s, start_s + window_s, color, _title(base), len(rows) - 1))
        rows[-1]["clips"].append(_clip(waveform, start_s, window_s, color))
    hop = max(512, -(-len(waveform) // MAX_COLUMNS))
    profile = recording.profile()
    render(
        path,
        TEMPLATE,
        title=recording.source_name,
        experiment=None,
        versions=None,
        lead=_lead(recording),
        overview={
            "picture": picture(waveform, RATE_HZ, marks=marks, hop_length=hop),
            "sound": clip_flac(waveform, RATE_HZ) if length_s <= MAX_SOUND_S else "",
            "profile": profile_lines(profile, mean),
            "end": 100 * min(len(profile) / max(1, int(recording.metadata["duration_cens"])), 1.0),
        },
        rows=rows,
    )


def write_class_page(path: Path, label: str, recordings: Sequence[MinedRecording], root: Path) -> None:
    """Write the page of a class: the first window of the motif of every recording, side by side.

    Args:
        path: The HTML file; replaced whole.
        label: The class.
        recordings: Mined recordings of the class; those without a motif, or that cannot be read, are counted.
        root: Folder of the recordings.
    """
    clips = []
    for each in recordings:
        start_s = each.place_s("motif_0")
        if start_s is not None:
            onset_s = max(0.0, start_s - MARGIN_S)
            length_s = each.window_s + 2 * MARGIN_S
            source = root / each.source_name
            try:
                waveform = read_audio(source, sample_rate_hz=RATE_HZ, onset_s=onset_s, duration_s=length_s).waveform
            except AudioError as error:
                say(f"{escaped(each.source_name)} is left out: {error.reason}")
                continue
            clip = _clip(waveform, start_s - onset_s, each.window_s, COLORS[0])
            clips.append({**clip, "time": clock(start_s), "name": escaped(each.source_name)})
    missing = len(recordings) - len(clips)
    lead = f"The motif of {len(clips)} recordings" + (f"; {missing} have none that can be read." if missing else ".")
    rows = [{"title": "Motifs", "note": "", "clips": clips}]
    render(path, TEMPLATE, title=label, experiment=None, versions=None, lead=lead, overview=None, rows=rows)


def profile_lines(profile: MatrixProfile, mean: float) -> list[str]:
    """The matrix profile as points of SVG lines, 0..1000 wide and PROFILE_HEIGHT high, low where windows recur.

    Args:
        profile: The profile.
        mean: Squared distance at the upper edge; larger ones are cut off. 0 = the largest distance.

    Returns:
        "x,y x,y ..." for each run of windows with a neighbor; the smallest distance where several share a point.
    """
    distances = profile.distances
    finite = distances[np.isfinite(distances)]
    top = mean or float(finite.max(initial=0.0)) or 1.0
    step = max(1, -(-len(distances) // 1000))
    padded = np.pad(distances, (0, -len(distances) % step), constant_values=np.inf).reshape(-1, step).min(axis=1)
    found = list[str]()
    for is_finite, run in itertools.groupby(enumerate(padded.tolist()), key=lambda point: bool(np.isfinite(point[1]))):
        if is_finite:
            points = ((1000 * i / len(padded), PROFILE_HEIGHT * (1 - min(y / top, 1.0))) for i, y in run)
            found.append(" ".join(f"{x:.1f},{y:.1f}" for x, y in points))
    return found


def _clip(waveform: np.ndarray, start_s: float, window_s: float, color: str) -> dict[str, Any]:
    """Picture and sound of a window with its margin."""
    first = max(0, round((start_s - MARGIN_S) * RATE_HZ))
    part = waveform[first : round((start_s + window_s + MARGIN_S) * RATE_HZ)]
    offset_s = start_s - first / RATE_HZ
    shown = picture(part, RATE_HZ, start_s=first / RATE_HZ, marks=[Mark(offset_s, offset_s + window_s, color)])
    return {"picture": shown, "sound": clip_flac(part, RATE_HZ), "time": clock(start_s), "name": ""}


def _title(name: str) -> str:
    kind, _, number = name.partition(".")
    return "Discord" if kind == "discord" else f"Motif {int(number) + 1}"


def _lead(recording: MinedRecording) -> str:
    about = f"{recording.metadata['feature']}, {recording.frames_per_s:g} frames a second, windows of "
    text = f"{about}{recording.window_s:g} s."
    reason = recording.metadata.get("reason")
    return f"{text} No motif: {escaped(reason)}" if recording.metadata["motif_0"] is None and reason else text
