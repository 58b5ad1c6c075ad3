"""Precomputed spectrograms: one .npy file per clip, of its middle segment, for trainings and for other programs.

The file of `train_audio/grekis/XC1.ogg` is `grekis/XC1.npy` below the folder when `train_audio` is the folder of the
recordings; a clip with times has them in its name, `XC1_2.000_7.000.npy`. An array is [n_mels, n_frames], as librosa
and the BirdCLEF notebooks order it: (256, 256) for the front-end `birdclef2025`. `spectrograms.json` holds the settings
of the front-end. Arrays of Python objects, as a dict that was written with np.save, are pickles and never loaded.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from birdnet_fs.batches.augment.crop import middle_segment
from birdnet_fs.batches.cache.parallel import in_order
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.progress import track
from birdnet_fs.core.settings import to_dict
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import FrontEnd

ABOUT = "spectrograms.json"
N_COMPARED = 8  # files that are compared with the audio where there is no spectrograms.json
TOLERANCE = 0.02  # largest difference from our features, as a share of their range, in those files
_FORMAT = 1
_PARSING = (SyntaxError, TokenError, RecursionError, MemoryError)  # errors of numpy, which parses a header as Python


def spectrogram_file(clip: Clip, root: Path | str) -> Path:
    """Relative path of the spectrogram of a clip.

    Args:
        clip: The clip.
        root: Folder of the recordings.

    Returns:
        Path of the recording inside `root` with the times of the clip and the suffix .npy.

    >>> str(spectrogram_file(Clip(Path("/data/grekis/XC1.ogg"), 2.0, 7.0), "/data"))
    'grekis/XC1_2.000_7.000.npy'
    """
    place = Path(os.path.relpath(clip.path, root))
    if place.parts[0] == os.pardir:
        place = Path(clip.path.parent.name, clip.path.name)
    times = f"_{clip.onset_s:.3f}_" + ("end" if clip.offset_s is None else f"{clip.offset_s:.3f}")
    whole = clip.offset_s is None and not clip.onset_s
    return place.with_name(f"{place.stem}{'' if whole else times}.npy")


def write_spectrograms(waveforms: Waveforms, spec: FrontEnd, folder: Path, root: Path | str) -> int:
    """Write the spectrogram of every clip that is not there yet; called again after an interruption, it goes on.

    Args:
        waveforms: The clips.
        spec: The front-end.
        folder: Output folder.
        root: Folder of the recordings.

    Returns:
        Number of files that were written.

    Raises:
        UserError: Two clips have one name, or the folder holds spectrograms of another front-end.
    """
    places = [folder / spectrogram_file(clip, root) for clip in waveforms.clips]
    first: dict[Path, Clip] = {}
    for place, clip in zip(places, waveforms.clips, strict=True):
        other = first.setdefault(place, clip)
        if (other.path, other.onset_s, other.offset_s) != (clip.path, clip.onset_s, clip.offset_s):
            raise UserError(
                f"{escaped(other.path)} and {escaped(clip.path)} would both be {escaped(place)}; rename one of them."
            )
    if (folder / ABOUT).is_file():
        _check_settings(folder, spec)
    write_json(folder / ABOUT, {"format": _FORMAT, "axes": ["n_mels", "n_frames"], "frontend": to_dict(spec)})
    missing = {place: i for i, place in enumerate(places) if not place.is_file()}

    def write(place: Path, index: int) -> None:
        features = log_mel(middle_segment(waveforms[index], spec), spec)[0]
        with atomic_path(place) as part:
            np.save(part, np.ascontiguousarray(features.T), allow_pickle=False)

    jobs = [(place, lambda place=place, i=i: write(place, i)) for place, i in missing.items()]
    for _ in track(in_order(jobs), "writing spectrograms", total=len(jobs), unit="clip"):
        pass
    return len(missing)


class SpectrogramFiles(Sequence[np.ndarray]):
    """Sequence of the features of the middle segments of clips, float32 [1, n_frames, n_mels], read from .npy files.

    Args:
        folder: Folder of the files.
        waveforms: The clips. Without `spectrograms.json`, some files are compared with features of the audio.
        spec: The front-end.
        root: Folder of the recordings.

    Raises:
        UserError: A file is missing, damaged or of another shape, or the spectrograms are of another front-end.
    """

    def __init__(self, folder: Path, waveforms: Waveforms, spec: FrontEnd, root: Path | str) -> None:
        self._spec = spec
        self.files = [folder / spectrogram_file(clip, root) for clip in waveforms.clips]
        missing = [file for file in self.files if not file.is_file()]
        if missing:
            raise UserError(
                f"{len(missing)} of {len(self.files)} spectrograms are missing in data.spectrograms; the first: "
                f"{escaped(missing[0])}. `birdnet-fs cache precompute` writes them."
            )
        if (folder / ABOUT).is_file():
            _check_settings(folder, spec)
        else:
            self._compare(waveforms)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> np.ndarray:  # type: ignore[override]  # no slices
        """The features of one clip, float32 [1, n_frames, n_mels]."""
        n_frames, n_mels = self._spec.shape
        # contiguous as those of the audio: a sum over another order of the values has other last bits
        return np.ascontiguousarray(read_npy(self.files[index], (n_mels, n_frames)).T)[None]

    def _compare(self, waveforms: Waveforms) -> None:
        """Compare some files with the features that the model will be given after training."""
        for i in np.unique(np.linspace(0, len(self) - 1, N_COMPARED).round().astype(int)).tolist():
            wanted = log_mel(middle_segment(waveforms[i], self._spec), self._spec)
            span = float(np.ptp(wanted)) or 1.0
            difference = float(np.abs(self[i] - wanted).max()) / span
            if difference > TOLERANCE:
                raise UserError(
                    f"{escaped(self.files[i])} differs from the features of the middle of its clip by "
                    f"{difference:.0%} of their range (at most {TOLERANCE:.0%} is allowed): it was written with other "
                    "settings or of another segment. Set the front-end to those settings, or write the spectrograms "
                    "with `birdnet-fs cache precompute`."
                )


def read_npy(file: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read an array of known shape from a .npy file that may come from a stranger.

    Args:
        file: The file.
        shape: Two sizes that the array must have.

    Returns:
        float32 [*shape].

    Raises:
        UserError: The file cannot be read, holds Python objects, or an array of another shape or type, or its numbers
            are not finite.
    """
    try:
        with open(file, "rb") as opened:
            version = np.lib.format.read_magic(opened)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            found, fortran, dtype = read_header[version](opened)
            _check_header(file, found, dtype, shape)
            # what the header states is not allocated before it is compared
            flat_values = np.frombuffer(opened.read(dtype.itemsize * shape[0] * shape[1]), dtype)
            values = flat_values.reshape(shape, order="F" if fortran else "C").astype(np.float32)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, EOFError, *_PARSING) as error:
        raise UserError(f"{escaped(file)} is not a readable .npy file ({escaped(error)}); write it again.") from None
    if not np.isfinite(values).all():
        raise UserError(f"{escaped(file)} holds numbers that are NaN or infinite; write it again.")
    return values


def _check_header(file: Path, found: Any, dtype: np.dtype[Any], shape: tuple[int, int]) -> None:
    if dtype.hasobject:
        raise UserError(
            f"{escaped(file)} holds Python objects (a pickle), which may run code and are never loaded. Write one "
            "array per clip from it in a program that you trust, with np.save(file, array, allow_pickle=False)."
        )
    if dtype.kind != "f" or tuple(found) != shape:
        swapped = ", which is [n_frames, n_mels]: transpose it" if tuple(found) == shape[::-1] else ""
        raise UserError(
            f"{escaped(file)} must be floats [n_mels, n_frames] = {list(shape)}. Received: {dtype} "
            f"{list(found)}{swapped}."
        )


def _check_settings(folder: Path, spec: FrontEnd) -> None:
    about = read_json(folder / ABOUT, "write the spectrograms again")
    stored = about.get("frontend") if isinstance(about, dict) else None
    if not isinstance(stored, dict):
        raise UserError(f"{escaped(folder / ABOUT)} has no front-end; write the spectrograms again.")
    wanted = to_dict(spec)
    others = [key for key in wanted if key != "preset" and stored.get(key) != wanted[key]]
    if others:
        key = others[0]
        raise UserError(
            f"{escaped(folder)} holds spectrograms of another front-end (frontend.{key}={escaped(stored.get(key))}, "
            f"not {wanted[key]}); use another folder."
        )
