"""A folder of mined recordings: for each a folder with metadata.json, mp.npy and pi.npy, and settings.json above them.

mp.npy holds the squared distance of every window to its nearest neighbor (float64 [n_windows], infinite without one),
pi.npy the first frame of that neighbor (int64 [n_windows], -1 without one). In metadata.json `motif_0` and `motif_1`
are the pair of windows that are closest to each other, `discord_0` the window that is farthest from its neighbor and
`discord_1` this neighbor: frames, which are indices into mp.npy, or null; `motif_0_s` etc. are the same in seconds.
A squared distance divided by `mean_distance` is a share of what two windows of the recording differ by on average.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.core.walk import list_files
from birdnet_fs.motifs.matrix_profile import MatrixProfile

SETTINGS, METADATA, DISTANCES, NEIGHBORS = "settings.json", "metadata.json", "mp.npy", "pi.npy"
PLACES = ("motif_0", "motif_1", "discord_0", "discord_1")
FORMAT = 1
_REMEDY = "mine the recordings again with `birdnet-fs motifs extract`"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "source_name": str,
    "label": str,
    "feature": str,
    "cens_sample_rate": (int, float),
    "matrix_profile_window": int,
    "sample_rate": int,
    "duration_cens": int,
    "duration_samples": int,
    "duration_seconds": (int, float),
    "mean_distance": (int, float),
    "max_distance": (int, float),
    **dict.fromkeys(PLACES, (int, type(None))),
}


@dataclass(frozen=True)
class MinedRecording:
    """A mined recording.

    Attributes:
        folder: Folder of the recording.
        metadata: Content of its metadata.json.
    """

    folder: Path
    metadata: Mapping[str, Any]

    @property
    def source_name(self) -> str:
        """Path of the recording, relative to the folder of the recordings."""
        return str(self.metadata["source_name"])

    @property
    def label(self) -> str:
        """Class, the name of the folder that holds the recording; "" where there are no class folders."""
        return str(self.metadata["label"])

    @property
    def frames_per_s(self) -> float:
        """Frames a second."""
        return float(self.metadata["cens_sample_rate"])

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return float(self.metadata["matrix_profile_window"]) / self.frames_per_s

    def place_s(self, name: str) -> float | None:
        """Start of one of PLACES in seconds; None where there is none."""
        frame = self.metadata[name]
        return None if frame is None else frame / self.frames_per_s

    def profile(self) -> MatrixProfile:
        """Read the matrix profile.

        Returns:
            The profile.

        Raises:
            UserError: The profile is damaged.
        """
        distances, neighbors = (_array(self.folder / name) for name in (DISTANCES, NEIGHBORS))
        n = len(distances)
        fits = distances.shape == neighbors.shape == (n,) and neighbors.dtype.kind == "i"
        if not fits or distances.dtype.kind != "f" or (n and not -1 <= neighbors.min() <= neighbors.max() < n):
            raise UserError(f"{escaped(self.folder)} holds no matrix profile; {_REMEDY}.")
        return MatrixProfile(distances, neighbors.astype(np.int64), int(self.metadata["matrix_profile_window"]))


def read_settings(folder: Path) -> dict[str, Any]:
    """Settings with which a folder was mined.

    Args:
        folder: Output of `birdnet-fs motifs extract`.

    Returns:
        Content of settings.json.

    Raises:
        UserError: The folder is none of mined recordings.
    """
    if not (folder / SETTINGS).is_file():
        raise UserError(
            f"A folder written by `birdnet-fs motifs extract` was expected; {escaped(folder)} has no {SETTINGS}."
        )
    found = read_json(folder / SETTINGS, _REMEDY)
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("recordings"), str):
        raise UserError(f"{escaped(folder / SETTINGS)} is not of this version; {_REMEDY}.")
    return found


def recordings_root(folder: Path, given: Path | None) -> Path:
    """Folder of the recordings that were mined.

    Args:
        folder: Folder of mined recordings.
        given: Present folder of the recordings; None = the folder where they were mined.

    Returns:
        The folder.

    Raises:
        UserError: The folder does not exist.
    """
    root = given or Path(read_settings(folder)["recordings"])
    if not root.is_dir():
        raise UserError(f"The recordings are no longer in {escaped(root)}; name their folder with --recordings FOLDER.")
    return root


def read_recording(folder: Path) -> MinedRecording:
    """Read metadata.json of one recording.

    Args:
        folder: Folder of the recording.

    Returns:
        The recording; its matrix profile is not read.

    Raises:
        UserError: A field is missing or of another type.
    """
    file = folder / METADATA
    found = read_json(file, _REMEDY)
    for name, kind in _FIELDS.items():
        value = found.get(name) if isinstance(found, dict) else None
        fits = isinstance(value, kind) and not isinstance(value, bool)
        if not fits or (name in PLACES and isinstance(value, int) and value < 0):
            raise UserError(f"{escaped(file)} has no usable {name}; {_REMEDY}.")
    if not (found["cens_sample_rate"] > 0 and found["matrix_profile_window"] > 0 and found["sample_rate"] > 0):
        raise UserError(f"{escaped(file)} has rates or a window that are not above 0; {_REMEDY}.")
    return MinedRecording(folder, found)


def mined_recordings(folder: Path) -> Iterator[MinedRecording]:
    """All recordings of a folder in the order of their paths.

    Args:
        folder: Output of `birdnet-fs motifs extract`.

    Yields:
        The recordings; their matrix profiles are not read. One whose metadata.json is damaged is named on stderr and
        left out.

    Raises:
        UserError: The folder is none of mined recordings.
    """
    read_settings(folder)
    places = sorted(os.path.dirname(f) for f in list_files(folder).files if os.path.basename(f) == METADATA)
    for place in places:
        try:
            found = read_recording(Path(place))
        except UserError as error:
            say(f"A recording is left out: {error}")
            continue
        yield found


def write_recording(folder: Path, profile: MatrixProfile, metadata: Mapping[str, Any]) -> None:
    """Write one recording; metadata.json is the last file, so that a folder that has it is complete.

    Args:
        folder: Folder of the recording; created.
        profile: Matrix profile of the recording.
        metadata: Content of metadata.json.
    """
    (folder / METADATA).unlink(missing_ok=True)
    for name, values in ((DISTANCES, profile.distances), (NEIGHBORS, profile.neighbors)):
        with atomic_path(folder / name) as part, open(part, "wb") as file:
            np.save(file, values, allow_pickle=False)
    write_json(folder / METADATA, metadata)


def _array(file: Path) -> NDArray[Any]:
    try:
        return np.asarray(np.load(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{escaped(file)} cannot be read ({escaped(error)}); {_REMEDY}.") from None
