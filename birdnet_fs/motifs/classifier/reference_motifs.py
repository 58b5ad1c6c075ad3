"""Similarity of clips to reference motifs: minimum, median and maximum of the join with each of them.

The profile of a clip against a motif holds, for every window of the clip, its smallest squared distance to the windows
of the motif. Several clips are compared with all motifs at once, instead of one join per clip and motif.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.read import read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import read_clip
from birdnet_fs.motifs.classifier.clips import CLIP_S
from birdnet_fs.motifs.features import FeatureSettings, open_features
from birdnet_fs.motifs.mined_folder import mined_recordings, recordings_root

WINDOW = 20  # frames of a window
STATISTICS = ("min", "median", "max")
MAX_MOTIFS = 4096
_CLIPS = 4  # compared at a time: their inner products with 64 motifs stay in the second-level cache


@dataclass(frozen=True, eq=False)
class ReferenceMotifs:
    """Reference motifs.

    Attributes:
        settings: The features of their frames.
        names: Recording of each.
        frames: float32 [n_frames, width] of each, WINDOW frames or more.
    """

    settings: FeatureSettings
    names: tuple[str, ...]
    frames: tuple[NDArray[np.float32], ...]

    @property
    def n_values(self) -> int:
        """Number of values of a clip."""
        return len(STATISTICS) * len(self.frames)


def read_reference_motifs(root: Path, recordings: Path | None = None) -> ReferenceMotifs:
    """Compute the frames of the motif of every mined recording.

    Args:
        root: Output of `birdnet-fs motifs extract`.
        recordings: Folder of the recordings. Default: None, where they were mined.

    Returns:
        The motifs; recordings without one, or that cannot be read any more, are left out with a line on stderr.

    Raises:
        UserError: The folder is none of mined recordings, has no motif, was mined with several or with other features
            than chroma and log-mel ones, or with windows of fewer than WINDOW frames.
    """
    audio_root = recordings_root(root, recordings)
    mined = [each for each in mined_recordings(root) if each.metadata["motif_0"] is not None]
    kinds = {(str(each.metadata["feature"]), each.frames_per_s) for each in mined}
    windows = {int(each.metadata["matrix_profile_window"]) for each in mined}
    if not mined or len(kinds) > 1 or next(iter(kinds))[0] == "embedding" or min(windows) < WINDOW:
        raise UserError(
            f"Reference motifs must be of one feature other than embedding, with windows of {WINDOW} frames or more "
            f"(--mp-window). Received: {escaped(root)} with {len(mined)} motifs, features "
            f"{', '.join(f'{name} at {rate:g} a second' for name, rate in sorted(kinds)) or 'none'}, windows of "
            f"{', '.join(map(str, sorted(windows))) or 'none'} frames"
        )
    [(name, rate)] = kinds
    settings = FeatureSettings(name, rate)
    features = open_features(settings)
    names, frames, lost = list[str](), list[NDArray[np.float32]](), list[str]()
    for each in track(mined[:MAX_MOTIFS], "reading reference motifs", unit="motif"):
        start, window = int(each.metadata["motif_0"]), int(each.metadata["matrix_profile_window"])
        try:
            waveform = read_audio(audio_root / each.source_name, sample_rate_hz=features.sample_rate_hz).waveform
        except AudioError as error:
            lost.append(f"{each.source_name}: {error.reason}")
            continue
        names.append(each.source_name)
        frames.append(np.ascontiguousarray(features.compute(waveform)[start : start + window], np.float32))
    if lost:
        say(f"{len(lost)} reference motifs are left out, the first: {escaped(lost[0])}")
    if not names or any(len(rows) < WINDOW for rows in frames):
        raise UserError(f"The recordings of {escaped(root)} have changed or are gone; mine them again.")
    return ReferenceMotifs(settings, tuple(names), tuple(frames))


def join_statistics(clips: Sequence[np.ndarray], motifs: Sequence[np.ndarray]) -> NDArray[np.float32]:
    """Minimum, median and maximum of the profile of each clip against each motif.

    Args:
        clips: float [n_frames, width] of each clip, any length.
        motifs: float [n_frames, width] of each motif, WINDOW frames or more.

    Returns:
        float32 [n_clips, 3 * n_motifs], the three of one motif after another; 0 for a clip shorter than WINDOW frames.
    """
    center = np.concatenate(motifs).mean(axis=0, dtype=np.float64)
    given = [(clip - center).astype(np.float32) for clip in clips]
    others = [(motif - center).astype(np.float32) for motif in motifs]
    found = np.zeros((len(clips), len(motifs), len(STATISTICS)), np.float32)
    for columns in _by_length(others).values():
        motif_frames = np.stack([others[column] for column in columns])
        for n_clip, rows in _by_length(given).items():
            for start in range(0, len(rows) if n_clip >= WINDOW else 0, _CLIPS):
                some = rows[start : start + _CLIPS]
                profiles = np.sort(_profiles(np.stack([given[row] for row in some]), motif_frames), axis=-1)
                n = profiles.shape[-1]
                middle = (profiles[..., (n - 1) // 2] + profiles[..., n // 2]) / 2
                statistics = (profiles[..., 0], middle, profiles[..., -1])
                found[np.ix_(some, columns)] = np.stack(statistics, axis=-1).swapaxes(0, 1)
    return found.reshape(len(clips), -1)


def _by_length(frames: Sequence[np.ndarray]) -> dict[int, list[int]]:
    """Numbers of the sequences of each length."""
    found: dict[int, list[int]] = {}
    for number, rows in enumerate(frames):
        found.setdefault(len(rows), []).append(number)
    return found


def _profiles(clips: NDArray[np.float32], motifs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Profiles of clips of one length against motifs of one length.

    The inner product of two windows is a sum along a diagonal of the inner products of their frames, and the next one
    on the diagonal has one product more and one less (join_kernel.py). Here a row of them, for a window of the motif
    and all windows of all clips, is computed for all motifs at once.

    Args:
        clips: [n_clips, n_frames, width].
        motifs: [n_motifs, n_motif_frames, width].

    Returns:
        [n_motifs, n_clips, n_frames - WINDOW + 1], squared distances, 0 or more.
    """
    n_clips, n_frames, width = clips.shape
    n_motifs, n_motif, _ = motifs.shape
    # the first sum of a row has none before it on its diagonal, and what follows from it moves by one with every row:
    # so many frames in front of the clips take it up; windows across two clips are not used either
    n_front = n_motif - WINDOW
    row = np.concatenate([np.zeros((n_front, width), np.float32), clips.reshape(-1, width)])
    products = (motifs.reshape(-1, width) @ row.T).reshape(n_motifs, n_motif, -1)
    n_windows = len(row) - WINDOW + 1
    sums = np.zeros((n_motifs, n_windows), np.float32)
    for k in range(WINDOW):
        sums += products[:, k, k : k + n_windows]
    squares = _window_squares(motifs)
    best = squares[:, :1] - 2 * sums
    for i in range(1, n_front + 1):
        sums[:, 1:] = sums[:, :-1] + products[:, i + WINDOW - 1, WINDOW:] - products[:, i - 1, : n_windows - 1]
        np.minimum(best, squares[:, i : i + 1] - 2 * sums, out=best)
    own = np.pad(best[:, n_front:], ((0, 0), (0, WINDOW - 1))).reshape(n_motifs, n_clips, n_frames)
    distances = own[:, :, : n_frames - WINDOW + 1] + _window_squares(clips)
    return np.maximum(distances, 0)


def _window_squares(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared length of every window: [n, n_frames, width] -> [n, n_frames - WINDOW + 1], summed in float64."""
    squares = np.square(frames, dtype=np.float64).sum(axis=2)
    return sliding_window_view(squares, WINDOW, axis=1).sum(axis=2).astype(np.float32)


def clip_statistics(reference: ReferenceMotifs, clips: Sequence[Clip]) -> NDArray[np.float32]:
    """`join_statistics` of clips: float32 [n_clips, reference.n_values]; 0 for a clip that cannot be read."""
    features = open_features(reference.settings)
    found = np.zeros((len(clips), reference.n_values), np.float32)
    n_samples = round(CLIP_S * features.sample_rate_hz)
    for number, clip in enumerate(track(clips, "comparing with reference motifs", unit="clip")):
        waveform = read_clip(clip, features.sample_rate_hz).waveform
        if waveform is not None:
            padded = np.pad(waveform, (0, max(0, n_samples - len(waveform))))
            found[number] = join_statistics([features.compute(padded)], reference.frames)[0]
    return found


def write_motifs(folder: Path, reference: ReferenceMotifs) -> dict[str, Any]:
    """Write the frames of the motifs as .npy files; returns their entry for metadata.json."""
    folder.mkdir()
    for number, rows in enumerate(reference.frames):
        with atomic_path(folder / f"{number}.npy") as part, open(part, "wb") as file:
            np.save(file, rows, allow_pickle=False)
    settings = reference.settings
    return {"feature": settings.name, "frames_per_s": settings.frames_per_s, "names": list(reference.names)}


def read_motifs(folder: Path, stored: Any) -> ReferenceMotifs:
    """Read what `write_motifs` wrote.

    Args:
        folder: The folder.
        stored: Entry of the motifs in metadata.json.

    Returns:
        The motifs.

    Raises:
        UserError: Something is missing or damaged.
    """
    again = f"{escaped(folder)} holds no reference motifs; copy the classifier again."
    kinds = {"feature": str, "frames_per_s": float | int, "names": list}
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), kind) for key, kind in kinds.items()):
        raise UserError(again)
    frames = []
    for number in range(min(len(stored["names"]), MAX_MOTIFS)):
        try:
            rows = np.load(folder / f"{number}.npy", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            raise UserError(again) from None
        if rows.ndim != 2 or len(rows) < WINDOW or rows.dtype != np.float32 or not np.isfinite(rows).all():
            raise UserError(again)
        frames.append(rows)
    if not frames or len({rows.shape[1] for rows in frames}) > 1:
        raise UserError(again)
    settings = FeatureSettings(stored["feature"], float(stored["frames_per_s"]))
    return ReferenceMotifs(settings, tuple(map(str, stored["names"])), tuple(frames))
