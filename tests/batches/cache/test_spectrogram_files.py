"""Precomputed spectrograms: written, read, compared with the audio, and hostile .npy files refused."""

import dataclasses
import io
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.batches.augment.crop import center
from birdnet_fs.batches.cache.spectrogram_files import (
    ABOUT,
    SpectrogramFiles,
    read_npy,
    spectrogram_file,
    write_spectrograms,
)
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend import preset
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.schema import FrontEnd

RATE = 16_000
SPEC = FrontEnd(segment_s=0.5, n_mels=16, sample_rate_hz=RATE, n_fft=512, win_length=512, hop_length=256, fmax_hz=8000)


@pytest.fixture
def waveforms(tmp_path: Path) -> Waveforms:
    clips = []
    for label in "ab":
        (tmp_path / "data" / label).mkdir(parents=True)
        for i in range(2):
            path = tmp_path / "data" / label / f"{i}.wav"
            soundfile.write(path, np.random.default_rng(i).normal(0, 0.1, RATE), RATE)
            clips.append(Clip(path, labels=(label,)))
    return Waveforms([*clips, Clip(clips[0].path, 0.25, 0.75), Clip(clips[0].path, 0.5)], RATE)


def test_files_have_the_names_of_recordings_and_the_axes_of_librosa(waveforms: Waveforms, tmp_path: Path) -> None:
    folder = tmp_path / "npy"
    assert write_spectrograms(waveforms, SPEC, folder, tmp_path / "data") == 6
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.npy")}
    assert names == {f"{label}/{i}.npy" for label in "ab" for i in range(2)} | {
        "a/0_0.250_0.750.npy",
        "a/0_0.500_end.npy",
    }
    wanted = log_mel(center(waveforms[1], SPEC.n_samples), SPEC)[0]
    np.testing.assert_array_equal(np.load(folder / "a" / "1.npy"), wanted.T)
    assert np.load(folder / "a" / "1.npy").shape == (16, SPEC.shape[0])
    (folder / "b" / "1.npy").unlink()
    assert write_spectrograms(waveforms, SPEC, folder, tmp_path / "data") == 1
    read = SpectrogramFiles(folder, waveforms, SPEC, tmp_path / "data")
    for i, waveform in enumerate(waveforms):
        np.testing.assert_array_equal(read[i], log_mel(center(waveform, SPEC.n_samples), SPEC))
        assert read[i].dtype == np.float32


def test_shape_of_birdclef2025_is_256_by_256() -> None:
    assert preset("birdclef2025").shape == (256, 256)


def test_recording_outside_of_the_root_keeps_the_name_of_its_folder() -> None:
    assert spectrogram_file(Clip(Path("/x/grekis/a.ogg")), "/data") == Path("grekis/a.npy")


def test_clips_of_one_name_are_refused(tmp_path: Path, waveforms: Waveforms) -> None:
    path = tmp_path / "data" / "a" / "0.flac"
    soundfile.write(path, np.zeros(RATE) + 0.1, RATE)
    both = Waveforms([waveforms.clips[0], Clip(path)], RATE)
    with pytest.raises(UserError, match=r"would both be .*a/0\.npy; rename one"):
        write_spectrograms(both, SPEC, tmp_path / "npy", tmp_path / "data")


def test_spectrograms_of_other_settings_are_refused(waveforms: Waveforms, tmp_path: Path) -> None:
    folder, root = tmp_path / "npy", tmp_path / "data"
    write_spectrograms(waveforms, SPEC, folder, root)
    other = dataclasses.replace(SPEC, fmin_hz=500.0)
    for call in (SpectrogramFiles, lambda f, w, s, r: write_spectrograms(w, s, f, r)):
        with pytest.raises(UserError, match=r"another front-end \(frontend\.fmin_hz=50\.0, not 500\.0\)"):
            call(folder, waveforms, other, root)
    (folder / ABOUT).unlink()  # files of another program: a sample is compared with the audio
    SpectrogramFiles(folder, waveforms, SPEC, root)
    with pytest.raises(UserError, match="differs from the features of the middle of its clip by"):
        SpectrogramFiles(folder, waveforms, other, root)
    (folder / ABOUT).write_text(json.dumps({"frontend": 3}))
    with pytest.raises(UserError, match="has no front-end"):
        SpectrogramFiles(folder, waveforms, SPEC, root)


def test_missing_files_are_counted(waveforms: Waveforms, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"6 of 6 spectrograms are missing .*; the first: .*a/0\.npy"):
        SpectrogramFiles(tmp_path / "npy", waveforms, SPEC, tmp_path / "data")


class Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (str(self.path), "w"))


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (saved(np.zeros((4, 8), np.float32))[:-1], "not a readable .npy file"),
        (saved(np.zeros((8, 4), np.float32)), "must be floats .*: transpose it"),
        (saved(np.zeros((4, 8), np.int32)), "must be floats"),
        (saved(np.zeros((4, 8), np.complex64)), "must be floats"),
        (saved(np.zeros((2, 4, 8), np.float32)), "must be floats"),
        (saved(np.full((4, 8), np.nan, np.float32)), "NaN or infinite"),
        (saved(np.full((4, 8), 1e300)), "NaN or infinite"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}"), "must be floats"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 8)}"), "not a readable"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, -8)}"), "must be floats"),
        (npy("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 8)}"), "must be floats"),
        (npy("__import__('os').system('touch harm')"), "not a readable"),
        (npy("(" * 5000), "not a readable"),
        (npy("[" * 60_000), "not a readable"),
        (npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (4, 8)}"), "must be floats"),
        (npy("7"), "not a readable"),
        (b"\x93NUMPY\x09\x00" + bytes(100), "not a readable"),
        (b"\x93NUM", "not a readable"),
        (b"", "not a readable"),
        (b"PK\x03\x04" + bytes(100), "not a readable"),
    ],
)
def test_hostile_npy_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with np.errstate(over="ignore"), pytest.raises(UserError, match=rf"(?s)a\.npy.*{words}"):
        read_npy(tmp_path / "a.npy", (4, 8))


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    """The single file of a dict, as np.save writes it, and plain pickles."""
    harm = tmp_path / "harm"
    holder = np.empty((), object)
    holder[()] = {"a": Harm(harm)}
    np.save(tmp_path / "a.npy", holder, allow_pickle=True)
    with pytest.raises(UserError, match=r"holds Python objects .a pickle., which may run code and are never loaded"):
        read_npy(tmp_path / "a.npy", (4, 8))
    (tmp_path / "a.npy").write_bytes(pickle.dumps(Harm(harm)))
    with pytest.raises(UserError, match="not a readable"):
        read_npy(tmp_path / "a.npy", (4, 8))
    assert not harm.exists()


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_any_kind_are_read(tmp_path: Path, dtype: str, order: str) -> None:
    array = np.asarray(np.arange(32).reshape(4, 8), dtype, order=order)
    np.save(tmp_path / "a.npy", array)
    found = read_npy(tmp_path / "a.npy", (4, 8))
    assert found.dtype == np.float32 and np.array_equal(found, array)
