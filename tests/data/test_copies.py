"""Fingerprints: equal for copies, different otherwise, constant memory; and clips matched by recording."""

import hashlib
import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.audio import decode
from birdnet_fs.data import copies
from birdnet_fs.data.copies import fingerprint, match_recordings, with_fingerprints
from birdnet_fs.data.manifest import Clip

RATE = 16_000
SAMPLES = np.random.default_rng(0).integers(-20_000, 20_000, (3 * RATE, 2)).astype(np.int16)


def write(path: Path, samples: np.ndarray = SAMPLES, rate: int = RATE, **more: str) -> Path:
    sf.write(path, samples, rate, **more)
    return path


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write(tmp_path / "a.flac")


def byte_copy(original: Path) -> Path:
    return Path(shutil.copy(original, original.with_name("copy.bin")))


def symlink(original: Path) -> Path:
    original.with_name("link.flac").symlink_to(original)
    return original.with_name("link.flac")


def hard_link(original: Path) -> Path:
    os.link(original, original.with_name("hard.flac"))
    return original.with_name("hard.flac")


def wav(original: Path) -> Path:
    return write(original.with_name("a.wav"), sf.read(original, dtype="int16")[0], subtype="PCM_16")


def wav_24(original: Path) -> Path:
    return write(original.with_name("b.wav"), sf.read(original, dtype="int32")[0], subtype="PCM_24")


def wav_float(original: Path) -> Path:
    return write(original.with_name("c.wav"), sf.read(original, dtype="float32")[0], subtype="FLOAT")


def aiff(original: Path) -> Path:
    return write(original.with_name("a.aiff"), sf.read(original, dtype="int16")[0], subtype="PCM_16")


def wav_cut_short_in_its_header(original: Path) -> Path:
    data = bytearray(wav(original).read_bytes())
    data[40:44] = (1000).to_bytes(4, "little")  # the size of the data chunk, 44 bytes of header before the samples
    original.with_name("lies.wav").write_bytes(data)
    return original.with_name("lies.wav")


def other_rate_in_its_header(original: Path) -> Path:
    return write(original.with_name("slow.wav"), sf.read(original, dtype="int16")[0], RATE // 10)


SAME = (byte_copy, symlink, hard_link, wav, wav_24, wav_float, aiff, wav_cut_short_in_its_header)
SAME += (other_rate_in_its_header,)


@pytest.mark.parametrize("make", SAME, ids=lambda make: make.__name__)
def test_copy_has_the_fingerprint_of_its_original(original: Path, make) -> None:
    assert len(fingerprint(original)) == 32
    assert fingerprint(make(original)) == fingerprint(original)


def test_fingerprint_is_a_hash_of_each_channel_as_float32(tmp_path: Path) -> None:
    mono, stereo = write(tmp_path / "mono.wav", SAMPLES[:, 0]), write(tmp_path / "stereo.wav")
    digests = [
        hashlib.blake2b((channel / 32_768).astype("<f4").tobytes(), digest_size=16).hexdigest() for channel in SAMPLES.T
    ]
    assert fingerprint(mono) == digests[0]
    assert fingerprint(stereo) == hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()
    assert fingerprint(write(tmp_path / "equal.flac", SAMPLES[:, [0, 0, 0]])) == digests[0]


def test_smallest_change_gives_another_fingerprint(tmp_path: Path) -> None:
    found = {fingerprint(write(tmp_path / "a.wav")), fingerprint(write(tmp_path / "short.wav", SAMPLES[:-1]))}
    for place in ((0, 0), (len(SAMPLES) // 2, 1), (-1, 0)):
        changed = SAMPLES.copy()
        changed[place] += 1
        found.add(fingerprint(write(tmp_path / f"{len(found)}.wav", changed)))
    found.add(fingerprint(write(tmp_path / "swapped.wav", SAMPLES[:, ::-1])))
    assert len(found) == 6


def test_zeros_of_either_sign_are_the_same_samples(tmp_path: Path) -> None:
    samples = (SAMPLES[:, 0] / 32_768).astype(np.float32)
    samples[::7] = 0
    negative = np.where(samples == 0, np.float32(-0.0), samples)
    paths = [write(tmp_path / f"{i}.wav", x, subtype="FLOAT") for i, x in enumerate((samples, negative))]
    assert np.signbit(sf.read(paths[1], dtype="float32")[0][0])
    assert fingerprint(paths[0]) == fingerprint(paths[1])


def changing(n_frames: int, seed: int) -> np.ndarray:
    """int16 noise in which every frame differs from the one before."""
    x = np.random.default_rng(seed).integers(1, 10_000, n_frames).astype(np.int16)
    return np.where(np.arange(n_frames) % 2, x, -x).astype(np.int16)


def test_only_the_start_is_hashed_and_silence_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "N_FRAMES", 5_000)
    front, silence = changing(5_001, 0), np.zeros(400_000, np.int16)
    tails = [changing(9_000, seed) for seed in (1, 2)]
    long = [fingerprint(write(tmp_path / f"{i}.flac", np.concatenate([front, tail]))) for i, tail in enumerate(tails)]
    assert long[0] == long[1] == fingerprint(write(tmp_path / "cut.wav", front))
    assert fingerprint(write(tmp_path / "cut.flac", front[:-1])) != long[0]
    late = [fingerprint(write(tmp_path / f"late{i}.wav", np.concatenate([silence, t]))) for i, t in enumerate(tails)]
    assert late[0] != late[1]
    assert fingerprint(write(tmp_path / "later.wav", np.concatenate([silence[:-1], tails[0]]))) != late[0]


@pytest.mark.parametrize("block", [1, 37, 4096])
def test_fingerprint_does_not_depend_on_the_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(copies, "N_FRAMES", 1_000)
    held = np.concatenate([np.repeat(changing(400, 0), 3), changing(3_000, 1)])
    samples = np.stack([held, np.roll(held, 5)], 1)
    expected = fingerprint(write(tmp_path / "a.wav", samples))
    monkeypatch.setattr(decode, "BLOCK", 2 * block)
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    assert fingerprint(tmp_path / "b.wav") == expected


@pytest.mark.parametrize("kind", ["mp3", "ogg", "opus"])
def test_lossy_files_are_compared_by_their_bytes(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    more = {"format": "OGG", "subtype": "OPUS"} if kind == "opus" else {}
    write(path, SAMPLES[:, 0] // 4, **more)
    other = write(tmp_path / f"b.{kind}", SAMPLES[:, 1] // 4, **more)
    found = fingerprint(path)
    assert found == fingerprint(byte_copy(path)) == fingerprint(symlink(path)) != fingerprint(other)
    assert found != fingerprint(write(tmp_path / "decoded.wav", sf.read(path)[0]))
    if kind == "mp3":
        tag = b"ID3\x03\x00\x00" + bytes([0, 0, 1, 0]) + b"\0" * 128  # the size in 7 bits a byte: 128
        path.with_name("tagged.mp3").write_bytes(tag + path.read_bytes() + b"TAG" + b" " * 125)
        assert fingerprint(path.with_name("tagged.mp3")) == found


def test_broken_missing_and_silent_files_have_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "broken.flac").write_bytes(b"fLaC\0\0\0\x22")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.mp3").write_text("a page")
    silent = write(tmp_path / "silent.wav", np.zeros(RATE, np.int16))
    constant = write(tmp_path / "constant.wav", np.full(RATE, 7, np.int16))
    for path in (*tmp_path.glob("[bet]*.*"), silent, constant, tmp_path / "none.wav", tmp_path, Path("a\0b")):
        assert fingerprint(path) == "", path


def test_truncated_recording_has_the_fingerprint_of_its_samples(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.wav", SAMPLES[:, 0])
    (tmp_path / "cut.wav").write_bytes(whole.read_bytes()[: 44 + 2 * 20_000])
    assert fingerprint(tmp_path / "cut.wav") == fingerprint(write(tmp_path / "left.flac", SAMPLES[:20_000, 0]))


def test_fingerprint_is_computed_once_until_the_file_changes(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    real = copies.open_source
    monkeypatch.setattr(copies, "open_source", lambda path: opened.append(path) or real(path))
    first = fingerprint(original)
    assert fingerprint(original) == first and opened == [original]
    write(original, SAMPLES[::-1])
    os.utime(original, ns=(0, 0))
    assert fingerprint(original) != first and opened == [original, original]


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    n_frames = 60 * 48_000
    path = write(tmp_path / "long.wav", np.repeat(changing(n_frames // 40, 0), 40), 48_000)
    tracemalloc.start()
    try:
        assert fingerprint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * n_frames / 4  # a quarter of its float32 samples, of which all are read


def test_clips_match_by_recording_whatever_their_paths_and_parts(original: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other.wav", SAMPLES[::-1])
    known = [Clip(original, 0.5, 1.0)]
    asked = [Clip(wav(original), 2.0, 2.5), Clip(other), Clip(symlink(original))]
    assert match_recordings(asked, known) == [True, False, True]
    assert match_recordings([], known) == [] and match_recordings(asked, []) == [False] * 3
    stored = with_fingerprints(known)
    assert stored[0].fingerprint == fingerprint(original) and with_fingerprints(stored) == stored
    original.unlink()
    (tmp_path / "link.flac").unlink()
    assert match_recordings(asked[:2], stored) == [True, False]  # the fingerprint is enough
    assert match_recordings(asked[:2], known) == [False, False]  # nothing is left to compare
    shutil.copy(other, original)  # another recording at the old path
    assert match_recordings([Clip(original)], stored) == [False]


def test_clips_match_by_path_where_one_has_no_fingerprint(tmp_path: Path) -> None:
    broken, gone = tmp_path / "broken.wav", tmp_path / "gone.wav"
    broken.write_bytes(b"RIFF")
    (tmp_path / "link.wav").symlink_to(broken)
    assert match_recordings([Clip(broken), Clip(gone)], [Clip(tmp_path / "link.wav")]) == [True, False]
    marked = replace(Clip(gone), fingerprint="0" * 32)
    assert match_recordings([marked], [Clip(gone)]) == match_recordings([Clip(gone)], [marked]) == [True]
