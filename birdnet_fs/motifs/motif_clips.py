"""Audio of motifs: clips of the top motifs and the discord of every recording, and one track of a motif of each."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger, LedgerRow
from birdnet_fs.data.windows import pad_to
from birdnet_fs.motifs.mined_folder import METADATA, PLACES, MinedRecording, mined_recordings, recordings_root
from birdnet_fs.motifs.mining import discord, top_motifs

RATE_HZ = 32_000
CLIP_S, TRACK_S = 5.0, 3.0
N_MOTIFS = 3


def write_top_motifs(folder: Path, output: Path, *, recordings: Path | None = None, n_motifs: int = N_MOTIFS) -> Ledger:
    """Cut the top motifs and the discord of every recording, each with its pair, as Ogg Vorbis of 5 s at 32 kHz.

    Args:
        folder: Output of `birdnet-fs motifs extract`.
        output: Folder; `output/LABEL/RECORDING` gets motif.0.ogg, motif.0.pair.ogg, motif.1.ogg ..., discord.0.ogg,
            discord.0.pair.ogg and metadata.json with the seconds of each. A clip lies around the middle of its window,
            within the recording, and is shorter only where the recording is. Recordings that are there already are not
            cut again.
        recordings: Folder of the recordings. Default: None, where they were.
        n_motifs: Number of motifs of each recording, 1 or more. Default: 3.

    Returns:
        The ledger, also written to `output/ledger.csv`; recordings without a motif are quarantined with the reason.

    Raises:
        UserError: The folder is none of mined recordings, or the recordings are not there.
    """
    root = recordings_root(folder, recordings)
    if n_motifs < 1:
        raise UserError(f"The number of motifs must be 1 or more. Received: {n_motifs}")
    ledger, names = Ledger(), Counter[Path]()
    with folder_lock(output):
        for each in track(list(mined_recordings(folder)), "motif clips", unit="recording"):
            place = Path(each.label, each.folder.name)
            names[place] += 1
            if names[place] > 1:  # of another folder with the same name
                place = place.with_name(f"{place.name}-{names[place]}")
            ledger.rows.append(_cut(each, root, output / place, n_motifs))
        ledger.write(output / "ledger.csv")
    return ledger


def write_track(folder: Path, output: Path, *, index: str = "motif_0", recordings: Path | None = None) -> int:
    """Write 3 s of every recording behind one another, from the start of its motif or discord on, as WAV of 32 kHz.

    Args:
        folder: Output of `birdnet-fs motifs extract`.
        output: The WAV file; replaced whole.
        index: One of PLACES. Default: "motif_0".
        recordings: Folder of the recordings. Default: None, where they were.

    Returns:
        Number of recordings in it. Those without a motif are left out, and those that cannot be read by name.

    Raises:
        UserError: `index` is none of them, the folder is none of mined recordings, or no recording could be used.
    """
    if index not in PLACES:
        raise UserError(f"--index must be one of {', '.join(PLACES)}. Received: {index!r}.{nearest(index, PLACES)}")
    root, n = recordings_root(folder, recordings), 0
    with (
        folder_lock(output),
        atomic_path(output) as part,
        soundfile.SoundFile(part, "w", RATE_HZ, 1, "PCM_16", format="WAV") as file,
    ):
        for each in track(list(mined_recordings(folder)), "track", unit="recording"):
            onset_s = each.place_s(index)
            if onset_s is None:
                continue
            try:
                waveform, _ = _clip(root, each, onset_s, TRACK_S)
            except AudioError as error:
                say(f"{escaped(each.source_name)} is left out: {error.reason}")
                continue
            file.write(pad_to(waveform, round(TRACK_S * RATE_HZ)))
            n += 1
        if not n:
            raise UserError(f"No recording of {escaped(folder)} has a {index} that can be read.")
    return n


def pairs_of(recording: MinedRecording, n_motifs: int) -> Iterator[tuple[str, int, float]]:
    """The windows of the top motifs and of the discord of a recording.

    Args:
        recording: A mined recording.
        n_motifs: Number of motifs.

    Yields:
        (name, frame, squared distance): "motif.0" and "motif.0.pair", "motif.1" ..., "discord.0" and "discord.0.pair".
    """
    profile = recording.profile()
    limit = recording.metadata["max_distance"] * recording.metadata["mean_distance"] or np.inf
    closest = [pair for pair in top_motifs(profile, n_motifs) if pair.distance <= limit]
    found = {f"motif.{i}": pair for i, pair in enumerate(closest)}
    strange = discord(profile)
    if strange is not None:
        found["discord.0"] = strange
    for name, pair in found.items():
        yield name, pair.first, pair.distance
        yield f"{name}.pair", pair.second, pair.distance


def _cut(recording: MinedRecording, root: Path, folder: Path, n_motifs: int) -> LedgerRow:
    """Write the clips of one recording unless they are there."""
    path, seconds = str(root / recording.source_name), float(recording.metadata["duration_seconds"])
    made_of = {"content": recording.metadata.get("content"), "n_motifs": n_motifs}
    if recording.metadata["motif_0"] is None:
        reason = recording.metadata.get("reason") or "it has no motif."
        return LedgerRow(path, "quarantined", str(reason), duration_s=seconds)
    if (folder / METADATA).is_file():
        there = read_json(folder / METADATA, "remove it, and it will be written again")
        if isinstance(there, dict) and all(there.get(key) == value for key, value in made_of.items()):
            return LedgerRow(path, "ok", duration_s=seconds)
    clips: list[dict[str, Any]] = []
    try:
        for name, frame, distance in pairs_of(recording, n_motifs):
            middle_s = frame / recording.frames_per_s + recording.window_s / 2
            waveform, onset_s = _clip(root, recording, middle_s - CLIP_S / 2, CLIP_S)
            _write_ogg(folder / f"{name}.ogg", waveform)
            place_s = frame / recording.frames_per_s
            clip = {"file": f"{name}.ogg", "onset_s": onset_s, "duration_s": len(waveform) / RATE_HZ}
            clips.append({**clip, "frame": frame, "window_onset_s": place_s, "distance": distance})
    except AudioError as error:
        return LedgerRow(path, "quarantined", error.reason, duration_s=seconds)
    except UserError as error:  # the matrix profile is damaged
        return LedgerRow(path, "quarantined", str(error), duration_s=seconds)
    about = {key: recording.metadata[key] for key in ("source_name", "label", "feature")}
    write_json(folder / METADATA, {**about, "window_s": recording.window_s, "clips": clips, **made_of})
    return LedgerRow(path, "ok", duration_s=seconds)


def _clip(root: Path, recording: MinedRecording, onset_s: float, length_s: float) -> tuple[np.ndarray, float]:
    """Up to `length_s` of a recording, moved into it where it would reach beyond its ends, and where it begins."""
    onset_s = max(0.0, min(onset_s, float(recording.metadata["duration_seconds"]) - length_s))
    path = root / recording.source_name
    audio = read_audio(path, sample_rate_hz=RATE_HZ, onset_s=onset_s, duration_s=length_s)
    return audio.waveform.clip(-1, 1), onset_s


def _write_ogg(path: Path, waveform: np.ndarray) -> None:
    with (
        atomic_path(path) as part,
        soundfile.SoundFile(part, "w", RATE_HZ, 1, "VORBIS", format="OGG") as file,
    ):
        for at in range(0, len(waveform), RATE_HZ):  # the Vorbis writer of libsndfile needs stack for a whole block
            file.write(waveform[at : at + RATE_HZ])
