"""Audio of triplets as one small .npy file each, which is faster to read in training than parts of recordings.

Each file is int16 [3, CUT_S x sample rate]: the cuts of anchor, neighbor and distant place. A cut is longer than a
segment of the network on both sides, so that training can shift it in time; a cut that reaches beyond a recording is
moved inside, and one of a shorter recording ends in silence.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.read import duration_s, read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, sha256, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.lock import locked
from birdnet_fs.core.progress import track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.motifs.triplets import Triplet, read_triplets

CUT_S = 7.0
SEGMENT_S = 5.0  # what a motif of the document lasts; its cut begins (CUT_S - SEGMENT_S) / 2 earlier
SAMPLE_RATE_HZ = 32_000
PER_FOLDER = 1000
METADATA, LEDGER = "metadata.json", "ledger.csv"


@locked("output")
def extract_triplets(
    triplets: Path, recordings: Path, output: Path, *, sample_rate_hz: int = SAMPLE_RATE_HZ, cut_s: float = CUT_S
) -> Ledger:
    """Write the audio of each triplet; the same call again writes what is missing.

    A triplet of which a recording is missing or cannot be decoded is quarantined in the ledger, and one that starts
    beyond the end of its recording too; nothing stops.

    Args:
        triplets: Table of triplets.
        recordings: Folder of the recordings that the table names.
        output: Folder to write to: files NNN/NNNNNN.npy by number of the triplet, metadata.json and ledger.csv.
        sample_rate_hz: Rate of the audio. Default: SAMPLE_RATE_HZ.
        cut_s: Length of a cut in seconds, above 0. Default: CUT_S.

    Returns:
        The ledger, one row per triplet.

    Raises:
        UserError: The table cannot be read, the folder of recordings does not exist, the length is not above 0, or the
            output holds cuts of another table or length.
    """
    rows = read_triplets(triplets)
    if not recordings.is_dir():
        raise UserError(f"A folder of recordings was expected at {escaped(recordings)}; there is no such folder.")
    if not cut_s > 0:
        raise UserError(f"The length of a cut must be above 0 s. Received: {cut_s}")
    facts = {"triplets_sha256": sha256(triplets), "sample_rate_hz": sample_rate_hz, "cut_s": cut_s, "n": len(rows)}
    if read_facts(output, needed=False) not in ({}, facts):
        raise UserError(f"{escaped(output)} holds cuts of another table, rate or length; give another folder.")
    write_json(output / METADATA, facts)
    lengths: dict[str, float | str] = {}  # seconds, or why a recording cannot be read
    ledger = Ledger()
    for number, row in enumerate(track(rows, "extracting triplets", unit="triplet")):
        file = cut_file(output, number)
        reason = "" if file.is_file() else _write(file, row, recordings, lengths, sample_rate_hz, cut_s)
        status = "quarantined" if reason else "ok"
        ledger.add(file, status, reason, duration_s=0.0 if reason else cut_s, source=f"{triplets.name} row {number}")
    ledger.write(output / LEDGER)
    return ledger


def cut_file(folder: Path, number: int) -> Path:
    """File of a triplet.

    >>> cut_file(Path("cuts"), 12345).as_posix()
    'cuts/012/012345.npy'
    """
    return folder / f"{number // PER_FOLDER:03d}" / f"{number:06d}.npy"


def read_facts(folder: Path, *, needed: bool = True) -> dict[str, Any]:
    """Read the metadata of extracted triplets.

    Args:
        folder: Folder that `extract_triplets` wrote.
        needed: Whether a folder without metadata is an error. Default: True.

    Returns:
        SHA-256 of the table, sample rate, length of a cut and number of triplets; empty where there is none.

    Raises:
        UserError: The file is needed and missing, or damaged.
    """
    file = folder / METADATA
    if not file.is_file():
        if needed:
            raise UserError(f"{escaped(folder)} holds no extracted triplets (motifs extract-triplets writes them).")
        return {}
    found = read_json(file, "extract the triplets into another folder")
    if not isinstance(found, dict):
        raise UserError(f"{escaped(file)} is damaged; extract the triplets into another folder.")
    return found


def _write(
    file: Path,
    row: Triplet,
    recordings: Path,
    lengths: dict[str, float | str],
    sample_rate_hz: int,
    cut_s: float,
) -> str:
    """Write the cuts of one triplet; returns why it cannot be, or "" when it was written."""
    cuts = np.zeros((3, round(cut_s * sample_rate_hz)), np.int16)
    for cut, name, start_s in zip(cuts, row[::2], row[1::2], strict=True):
        path = recordings / str(name)
        length = lengths.get(str(name))
        if length is None:
            length = lengths[str(name)] = _length(path)
        if isinstance(length, str):
            return length
        if float(start_s) >= length:
            return f"{escaped(name)} lasts {length:.1f} s, and the place is at {float(start_s):.1f} s"
        try:
            cut[:] = read_cut(path, float(start_s) + SEGMENT_S / 2, length, cut_s, sample_rate_hz)
        except AudioError as error:
            lengths[str(name)] = error.reason
            return error.reason
    with atomic_path(file) as part, open(part, "wb") as stream:
        np.save(stream, cuts, allow_pickle=False)
    return ""


def read_cut(path: Path, center_s: float, length_s: float, cut_s: float, sample_rate_hz: int) -> NDArray[np.int16]:
    """Read a cut around a time, moved inside the recording and padded with silence where that is shorter.

    Args:
        path: The recording.
        center_s: Center of the cut in seconds.
        length_s: Length of the recording in seconds.
        cut_s: Length of the cut in seconds.
        sample_rate_hz: Rate of the cut.

    Returns:
        int16 [cut_s x sample_rate_hz]. AudioError is passed on when the recording cannot be decoded.
    """
    start_s = max(0.0, min(center_s - cut_s / 2, length_s - cut_s))
    waveform = read_audio(path, sample_rate_hz=sample_rate_hz, onset_s=start_s, duration_s=cut_s).waveform
    return padded(to_int16(waveform), round(cut_s * sample_rate_hz))


def to_int16(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """A waveform [n] in ±1 as int16 [n]; louder samples are limited."""
    return np.clip(np.rint(waveform * 32_768.0), -32_768, 32_767).astype(np.int16)


def padded(samples: NDArray[Any], n: int) -> NDArray[Any]:
    """The first `n` samples [n], with silence at the end where there are fewer."""
    return np.pad(samples[:n], (0, max(0, n - len(samples))))


def _length(path: Path) -> float | str:
    try:
        return duration_s(path)
    except AudioError as error:
        return error.reason


def found_cuts(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Triplets whose file is there."""
    present: dict[Path, set[str]] = {}
    kept = []
    for number in numbers:
        file = cut_file(folder, number)
        if file.parent not in present:
            present[file.parent] = set(os.listdir(file.parent)) if file.parent.is_dir() else set()
        if file.name in present[file.parent]:
            kept.append(number)
    return kept
