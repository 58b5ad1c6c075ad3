"""Cached waveforms equal decoded ones, whatever happened to the cache, the recordings or the disk."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cached_clips import GB, RATE, cache_in, differences, write_recordings
from killed import leftovers, small_disk

from birdnet_fs.batches.cache import folder as cache_folder
from birdnet_fs.batches.cache import hashes, waveforms
from birdnet_fs.batches.cache.store import StoreFile
from birdnet_fs.batches.cache.waveforms import CachedWaveforms, as_float, exact_int16, waveform_reader
from birdnet_fs.core import progress
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.schema import Data

HELPER = Path(__file__).parents[2] / "helpers" / "cached_clips.py"


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    return write_recordings(tmp_path / "recordings")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@contextlib.contextmanager
def decoded() -> Iterator[list[str]]:
    """Names of the files that are decoded inside the block."""
    names: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        read = waveforms.read_clip
        patch.setattr(waveforms, "read_clip", lambda clip, rate: names.append(clip.path.name) or read(clip, rate))
        yield names


def read(clips: list[Clip], place: Path, limit: int = GB) -> CachedWaveforms:
    found = CachedWaveforms(clips, RATE, cache_in(place, limit))
    assert differences(found, Waveforms(clips, RATE)) == []
    return found


def dtypes(place: Path) -> dict[str, int]:
    entries = [entry for path in cache_in(place).stores() for entry in StoreFile(path).entries.values()]
    return {dtype: sum(entry.dtype == dtype for entry in entries) for dtype in ("int16", "float32")}


def test_cached_waveforms_equal_decoded_ones(clips: list[Clip], place: Path) -> None:
    read(clips, place)
    with decoded() as names:
        found = read(clips, place)
    assert names == []  # also of those that cannot be read, except one that does not exist
    assert found.ledger.counts()["quarantined"] == 4 and found.ledger.counts()["partial"] >= 2
    assert leftovers(place) == []


def test_int16_is_used_where_it_is_exact(clips: list[Clip], place: Path) -> None:
    """16-bit and 8-bit PCM at the rate, FLAC of 16 bits, silence and full scale; nothing else."""
    read([clip for clip in clips if clip.path.name in ("pcm24.wav", "float.wav", "other_rate.wav", "b.ogg")], place)
    assert dtypes(place)["int16"] == 0
    shutil.rmtree(place)
    exact = ("pcm16.wav", "pcm8.wav", "a.flac", "silent.wav", "loudest.wav")
    read([clip for clip in clips if clip.path.name in exact and clip.offset_s is None], place)
    assert dtypes(place) == {"int16": 5, "float32": 0}


def test_exact_int16_keeps_every_bit() -> None:
    every = np.arange(-(2**15), 2**15).astype(np.float32) / np.float32(2**15)
    samples = exact_int16(every)
    assert samples is not None and np.array_equal(as_float(samples).view("i4"), every.view("i4"))
    assert as_float(samples).dtype == np.float32
    for value in (1.0, -1.0 - 2.0**-15, 2.0**-16, -0.0, np.nan, np.inf, 1e-30):
        changed = np.append(every, np.full(5000, 0.25, np.float32))
        changed[-1] = value  # behind the first samples, which are looked at alone
        assert exact_int16(changed) is None


def test_runs_share_what_is_stored(clips: list[Clip], place: Path) -> None:
    """The parts of another fold, and copies of recordings under other names and times, are not decoded again."""
    read(clips[:8], place)
    with decoded() as names:
        read(clips[4:12], place)
    assert sorted(names) == sorted(clip.path.name for clip in clips[8:12])
    copies = place.with_name("copies")
    shutil.copytree(clips[0].path.parent, copies)
    with decoded() as names:
        read([replace(clip, path=copies / clip.path.name) for clip in clips[:12]], place)
    assert names == []


@pytest.mark.parametrize("keep_time", [False, True])
def test_changed_recording_is_decoded_again(clips: list[Clip], place: Path, keep_time: bool) -> None:
    """Also one of the same size whose modification time was set back."""
    path = clips[0].path
    soundfile.write(path, np.full(RATE, 0.25), RATE, subtype="PCM_16", format="WAV")
    about = os.stat(path)
    one = [Clip(path)]
    read(one, place)
    time.sleep(0.02)
    soundfile.write(path, np.full(RATE, 0.5), RATE, subtype="PCM_16", format="WAV")
    if keep_time:
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert os.stat(path).st_size == about.st_size
    assert read(one, place)[0][0] == 0.5


def test_hash_is_kept_only_of_a_recording_that_has_not_changed_lately(
    clips: list[Clip], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [os.fspath(clip.path) for clip in clips[:3]]
    read_again: list[str] = []
    true = hashes.sha256
    monkeypatch.setattr(hashes, "sha256", lambda path: read_again.append(path) or true(path))
    first = hashes.content_hashes(paths, place)
    assert len(first) == 3 and hashes.content_hashes(paths, place) == first
    assert len(read_again) == 6  # they were written less than RACY_S ago
    monkeypatch.setattr(hashes, "RACY_S", 0.0)
    hashes.content_hashes(paths, place)
    assert hashes.content_hashes(paths, place) == first and len(read_again) == 9
    for file in (place / "hashes").iterdir():
        file.write_text('{"folder": 7, "files": [[["')
    assert hashes.content_hashes(paths, place) == first and len(read_again) == 12


def test_rate_times_and_version_are_part_of_the_key(
    clips: list[Clip], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = [Clip(clips[-1].path)]
    read(one, place)
    for other in ([replace(one[0], onset_s=0.5)], [replace(one[0], offset_s=1.0)]):
        with decoded() as names:
            read(other, place)
        assert len(names) == 1
    with decoded() as names:
        CachedWaveforms(one, 8_000, cache_in(place))
        monkeypatch.setattr(waveforms, "decoding_version", lambda: "another libsndfile")
        read(one, place)
    assert len(names) == 2


@pytest.mark.parametrize("where", ["array", "index", "end"])
def test_damaged_store_is_reported_and_written_again(
    clips: list[Clip], place: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    read(clips, place)
    (store,) = cache_in(place).stores()
    data = bytearray(store.read_bytes())
    if where == "end":
        data = data[:-10]
    else:
        at = 100 if where == "array" else len(data) - 200
        data[at] ^= 0xFF
    store.write_bytes(data)
    progress._said.clear()
    read(clips, place)  # equal to decoded ones all the same
    assert "was removed, and the next training writes it again" in capsys.readouterr().err
    assert store not in cache_in(place).stores()
    read(clips, place)
    with decoded() as names:
        read(clips, place)
    assert names == []


def test_size_is_limited_and_what_was_used_longest_ago_goes(tmp_path: Path, place: Path) -> None:
    sets = [[Clip(tmp_path / f"{i}.wav")] for i in range(4)]
    for i in range(4):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).uniform(-1, 1, RATE), RATE, subtype="FLOAT")
    limit = 150_000  # of two waveforms of 64 kB
    for own in sets[:2]:
        read(own, place, limit)
    oldest, _ = cache_in(place).stores()
    os.utime(oldest, ns=(0, 0))
    read(sets[2], place, limit)
    assert len(cache_in(place).stores()) == 2 and oldest not in cache_in(place).stores()
    assert sum(path.stat().st_size for path in cache_in(place).stores()) <= limit


def test_nothing_in_use_is_removed(tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).uniform(-1, 1, RATE), RATE, subtype="FLOAT")
    progress._said.clear()
    held = read([Clip(tmp_path / "0.wav")], place, 80_000)
    read([Clip(tmp_path / "1.wav")], place, 80_000)
    assert "is full (data.cache_gb=8e-05)" in capsys.readouterr().err
    assert len(cache_in(place).stores()) == 1
    with decoded() as names:
        read(list(held.clips), place, 80_000)
    assert names == []


def test_long_sets_fill_several_stores(clips: list[Clip], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_folder, "STORE_BYTES", 80_000)
    read(clips, place)
    assert len(cache_in(place).stores()) > 5
    with decoded() as names:
        read(clips, place)
    assert names == []


def test_interrupt_keeps_what_is_decoded(clips: list[Clip], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true, seen = waveforms.read_clip, []

    def stopping(clip: Clip, rate: int) -> object:
        seen.append(clip)
        if clip.path.name == "pcm24.wav":
            raise KeyboardInterrupt
        return true(clip, rate)

    with monkeypatch.context() as patch:
        patch.setattr(waveforms, "read_clip", stopping)
        with pytest.raises(KeyboardInterrupt):
            CachedWaveforms(clips, RATE, cache_in(place))
    n_before = sum(dtypes(place).values())
    assert n_before == [clip.path.name for clip in clips].index("pcm24.wav")
    with decoded() as names:
        read(clips, place)
    assert len(names) == len({(c.path, c.onset_s, c.offset_s) for c in clips}) - 1 - n_before  # one does not exist


def test_recording_that_changes_while_it_is_decoded_is_not_stored(
    clips: list[Clip], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, one = waveforms.read_clip, [clips[0]]

    def changing(clip: Clip, rate: int) -> object:
        found = true(clip, rate)
        clip.path.write_bytes(clip.path.read_bytes() + b"more")
        return found

    monkeypatch.setattr(waveforms, "read_clip", changing)
    CachedWaveforms(one, RATE, cache_in(place))
    assert cache_in(place).stores() == []


@pytest.mark.parametrize("kib", [0, 4, 8, 40, 100, 150, 200, 300, 400, 500])
def test_full_disk_is_said_once_and_changes_no_waveform(
    clips: list[Clip], tmp_path: Path, kib: int, capsys: pytest.CaptureFixture[str]
) -> None:
    progress._said.clear()
    with small_disk(tmp_path / "disk") as resize:
        resize(max(4, kib))
        if kib == 0:
            (tmp_path / "disk" / ".fill").write_bytes(bytes(4096))
        read(clips, tmp_path / "disk")
        read(clips, tmp_path / "disk")
        said = capsys.readouterr().err
        assert said.count("work goes on without it") == 1 and "free disk space" in said
        assert cache_in(tmp_path / "disk").stores() == []
        resize(16_000)
        read(clips, tmp_path / "disk")
        with decoded() as names:
            read(clips, tmp_path / "disk")
        assert names == []


def test_read_only_cache_is_read(clips: list[Clip], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress._said.clear()
    with small_disk(tmp_path / "disk") as resize:
        resize(4000)
        read(clips[:4], tmp_path / "disk")
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        with decoded() as names:
            read(clips[:4], tmp_path / "disk")
        assert names == [] and capsys.readouterr().err == ""
        read(clips, tmp_path / "disk")
        assert capsys.readouterr().err.count("work goes on without it: there is no permission") == 1


def test_folder_of_other_things_is_refused(clips: list[Clip], tmp_path: Path) -> None:
    for name, words in (("recordings", "holds other files"), ("recordings/a.flac", "is a file")):
        with pytest.raises(UserError, match=words):
            CachedWaveforms(clips, RATE, cache_in(tmp_path / name))
    assert len(os.listdir(tmp_path / "recordings")) == 13


def test_reader_of_the_settings(clips: list[Clip], place: Path) -> None:
    assert waveform_reader(Data()) is Waveforms
    found = waveform_reader(Data(cache=str(place), cache_gb=0.5))(clips, RATE)
    assert isinstance(found, CachedWaveforms) and found.cache.limit_bytes == 500_000_000


def kill_writers(tmp_path: Path, n_kills: int, n_processes: int = 8) -> tuple[int, list[str]]:
    """Let processes read and fill one cache, kill one after the other and start another; reads and wrong reads."""
    recordings, place = tmp_path / "recordings", tmp_path / "cache"
    write_recordings(recordings)
    rng = np.random.default_rng(n_kills)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    outputs = [open(tmp_path / f"{i}.txt", "a+") for i in range(n_processes)]  # noqa: SIM115, closed below
    command = [sys.executable, str(HELPER), str(recordings), str(place)]

    def start(i: int) -> subprocess.Popen:
        return subprocess.Popen([*command, str(i)], stdout=outputs[i], stderr=outputs[i], env=environment)

    running = [start(i) for i in range(n_processes)]
    while not cache_in(place).stores():
        time.sleep(0.05)
    for kill in range(n_kills):
        time.sleep(rng.uniform(0.02, 0.3))
        if kill % 3 == 0:
            for path in cache_in(place).stores():  # so that there is something to write
                path.unlink(missing_ok=True)
        i = int(rng.integers(n_processes))
        running[i].send_signal(signal.SIGKILL)
        running[i].wait()
        running[i] = start(i)
    time.sleep(2)
    for process in running:
        process.kill()
        process.wait()
    lines: list[str] = []
    for file in outputs:
        file.seek(0)
        lines += file.read().splitlines()
        file.close()
    n_reads = sum(line == "read []" for line in lines)
    words = ("Error", "Traceback", "damaged", "not a whole")
    wrong = [line for line in lines if any(word in line for word in words)]
    wrong += [line for line in lines if line.startswith("read [") and line != "read []"]
    for path in cache_in(place).stores():
        assert StoreFile(path).damaged() == []
    return n_reads, wrong


@pytest.mark.parametrize(("n_kills", "n_processes"), [(4, 2), pytest.param(60, 8, marks=pytest.mark.slow)])
def test_killed_writers_leave_no_wrong_reads(tmp_path: Path, n_kills: int, n_processes: int) -> None:
    n_reads, wrong = kill_writers(tmp_path, n_kills, n_processes)
    assert n_reads >= n_kills / 2 and wrong == []
