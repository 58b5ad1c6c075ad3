"""Read an analysis: the stored detections of all its recordings."""

import os
from pathlib import Path

from birdnet_fs.analysis.combined.stored import SUFFIX, read_stored
from birdnet_fs.analysis.combined.write import FinishedRecording
from birdnet_fs.analysis.resume import DONE, read_stamp
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped


def read_analysis(folder: Path, recordings: Path | None = None) -> list[FinishedRecording]:
    """Read the detections of an analysis whose recordings are there and unchanged.

    Args:
        folder: Output folder of `birdnet-fs analyze`.
        recordings: Input folder of the analysis where it was moved to. Default: None, where it was.

    Returns:
        Detections and outcomes, sorted by path.

    Raises:
        UserError: The folder is no analysis, has recordings of several models or settings, the stored detections of a
            recording cannot be used, or a recording is not there or has another size than when it was analyzed.
    """
    done = folder / DONE
    names = sorted(name for name in os.listdir(done) if name.endswith(".json")) if done.is_dir() else []
    stamps = [(name, stamp) for name in names if (stamp := read_stamp(done / name)) and stamp.settings]
    if not stamps:
        raise UserError(
            f"A folder written by `birdnet-fs analyze` was expected. Received: {escaped(folder)}, which holds no "
            "finished recording."
        )
    if len({stamp.settings for _, stamp in stamps}) > 1:
        raise UserError(
            f"{escaped(folder)} holds tables of several models or settings; analyze all recordings again with one of "
            "them, or into another folder."
        )
    found, lost = [], []
    for name, stamp in stamps:
        path, root, stored = Path(stamp.content.path), Path(stamp.root), done / (Path(name).stem + SUFFIX)
        if recordings is not None:
            path, root = recordings / path.relative_to(root), recordings
        written = stamp.wrote(folder, os.path.join(DONE, stored.name))
        detections = read_stored(stored, path, root) if written else None
        if detections is None:
            raise UserError(
                f"The stored detections of {escaped(path)} are missing, damaged or of another version; give the same "
                "`birdnet-fs analyze` again."
            )
        if not path.is_file() or path.stat().st_size != stamp.content.n_bytes:
            lost.append(path)
        found.append(FinishedRecording(detections, stamp.outcome))
    if lost:
        raise UserError(
            f"{len(lost)} of {len(stamps)} analyzed recordings are not there or have changed (the first: "
            f"{escaped(lost[0])}); give their folder with --recordings, or analyze again what is there."
        )
    return sorted(found, key=lambda each: os.fsencode(each.detections.path))
