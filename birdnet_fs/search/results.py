"""Files of a search: a table of the results, and their clips with a margin to listen to."""

from collections.abc import Sequence
from pathlib import Path

import soundfile

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import escaped
from birdnet_fs.search.neighbors import Neighbor

TABLE, CLIPS = "neighbors.csv", "clips"
COLUMNS = ("rank", "recording", "start_s", "end_s", "similarity", "n_windows", "clip")
MARGIN_S = 2.0
CLIP_RATE_HZ = 48_000


def write_table(path: Path, neighbors: Sequence[Neighbor], clips: Sequence[str]) -> None:
    """Write the results as CSV, atomically.

    Args:
        path: The file.
        neighbors: Results, best first.
        clips: Name of the clip of each result, "" where it could not be cut.
    """
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        for rank, (each, clip) in enumerate(zip(neighbors, clips, strict=True), 1):
            times = (f"{each.start_s:.3f}", f"{each.end_s:.3f}")
            writer.writerow([rank, each.recording, *times, f"{each.similarity:.4f}", each.n_windows, clip])


def write_clips(folder: Path, neighbors: Sequence[Neighbor], root: Path) -> tuple[list[str], list[str]]:
    """Cut the clip of every result, with a margin of MARGIN_S seconds on both sides, as 16-bit WAV.

    Args:
        folder: Folder of the clips; created.
        neighbors: Results, best first.
        root: Folder of relative paths of recordings.

    Returns:
        (names, problems): the file name of each clip, "" where its recording could not be read, and one sentence for
        each of these.
    """
    names, problems = [], []
    folder.mkdir(parents=True, exist_ok=True)
    for rank, each in enumerate(neighbors, 1):
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
