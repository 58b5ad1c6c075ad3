"""Stores: what is written is read, damage is found, and a hostile index reads nothing outside the file."""

import json
import os
import pickle
import signal
import struct
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from killed import killed_at_every_change, leftovers, sampled

from birdnet_fs.batches.cache.store import MAGIC, DamagedError, StoreFile, writing_store
from birdnet_fs.core.lock import is_in_use

ARRAYS = {
    "a" * 64: np.arange(-3, 4, dtype=np.int16),
    "b" * 64: np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "c" * 64: np.empty(0, np.float32),
}


def write(path: Path) -> None:
    with writing_store(path) as writer:
        for key, array in ARRAYS.items():
            writer.add(key, array, (None, "ok", key[0], ["flag"], 1.5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "a.store")
    return tmp_path / "a.store"


def with_index(path: Path, rows: object) -> None:
    """Replace the index of a store, with a correct hash."""
    data = path.read_bytes()
    start = struct.unpack("<QQ32s8s", data[-56:])[0]
    index = json.dumps(rows).encode()
    path.write_bytes(data[:start] + index + struct.pack("<QQ32s8s", start, len(index), sha256(index).digest(), MAGIC))


def test_store_returns_what_was_written(path: Path) -> None:
    store = StoreFile(path)
    assert list(store.entries) == list(ARRAYS) and store.damaged() == []
    for key, array in ARRAYS.items():
        found, entry = store.array(store.entries[key]), store.entries[key]
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype and entry.about == (None, "ok", key[0], ["flag"], 1.5)
        assert not found.flags.writeable or not found.size
    again = pickle.loads(pickle.dumps(store))  # as for a worker process that is not forked
    np.testing.assert_array_equal(again.array(again.entries["b" * 64]), ARRAYS["b" * 64])


def test_store_without_arrays_is_not_written(tmp_path: Path) -> None:
    with writing_store(tmp_path / "a.store"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_every_damaged_byte_is_found(path: Path) -> None:
    """Each byte of arrays, index and footer in turn; padding between arrays is part of none."""
    data = path.read_bytes()
    entries = StoreFile(path).entries.values()
    used = [range(e.start, e.start + e.n_bytes) for e in entries] + [
        range(struct.unpack("<Q", data[-56:-48])[0], len(data))
    ]
    for place in (i for part in used for i in part):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        try:
            assert len(StoreFile(path).damaged()) == 1, place
        except DamagedError:
            assert place >= used[-1].start


@pytest.mark.parametrize("n_bytes", [0, 1, 55, 56, 100, 200, -1])
def test_truncated_store_is_refused(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(DamagedError, match=r"a\.store"):
        StoreFile(path)


@pytest.mark.parametrize(
    "row",
    [
        ["a" * 64, "int16", [2**40], 0, 0, []],
        ["a" * 64, "int16", [-4], 0, 0, []],
        ["a" * 64, "int16", [2**33, 2**33], 0, 0, []],
        ["a" * 64, "int16", [4], 2**40, 0, []],
        ["a" * 64, "int16", [4], -64, 0, []],
        ["a" * 64, "int16", [4], 1, 0, []],
        ["a" * 64, "object", [4], 0, 0, []],
        ["a" * 64, "int16", [1] * 5, 0, 0, []],
        ["a" * 64, "int16", [True], 0, 0, []],
        ["a" * 64, "int16", [1.5], 0, 0, []],
        ["a" * 64, ["int16"], [4], 0, 0, []],
        ["a", "int16", [4], 0, 0, []],
        ["a" * 64, "int16", [4]],
        7,
    ],
    ids=str,
)
def test_hostile_index_is_refused(path: Path, row: object) -> None:
    with_index(path, [row])
    with pytest.raises(DamagedError, match="not one of this version"):
        StoreFile(path)


def test_pickle_in_a_store_is_not_loaded(path: Path, tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "harm"), "w"))

    path.write_bytes(pickle.dumps(Harm()) + bytes(100))
    with pytest.raises(DamagedError):
        StoreFile(path)
    assert not (tmp_path / "harm").exists()


def test_open_store_is_in_use(path: Path) -> None:
    assert not is_in_use(path) and not is_in_use(path.with_name("missing"))
    store = StoreFile(path)
    assert is_in_use(path)
    path.unlink()  # a removed store is still readable
    np.testing.assert_array_equal(store.array(store.entries["a" * 64]), ARRAYS["a" * 64])
    write(path)
    assert not is_in_use(path)


@sampled(every=3)
def test_killed_writer_leaves_no_store_or_a_whole_one(tmp_path: Path, every: int) -> None:
    folder = tmp_path / "stores"

    def prepare() -> None:
        folder.mkdir(exist_ok=True)
        (folder / "a.store").unlink(missing_ok=True)

    states = set()
    for _ in killed_at_every_change(folder, prepare, lambda: write(folder / "a.store"), every=every):
        there = (folder / "a.store").exists()
        assert not there or StoreFile(folder / "a.store").damaged() == []
        states.add(there)
    assert False in states
    write(folder / "a.store")
    assert leftovers(folder) == []


def test_writer_killed_between_two_arrays_leaves_no_store(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with writing_store(tmp_path / "a.store") as writer:
            writer.add("a" * 64, np.zeros(100_000, np.float32))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (tmp_path / "a.store").exists() and len(leftovers(tmp_path)) == 1
