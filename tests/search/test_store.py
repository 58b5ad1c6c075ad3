"""The store: refuses what does not belong together, and names what is damaged."""

import dataclasses
import json

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.store import (
    EmbeddedRecording,
    StoreHeader,
    create_store,
    embedded_recordings,
    open_store,
    write_part,
)

HEADER = StoreHeader("small", "/e.onnx", "", "abc", "CC0", 16_000, 0.2, 0.2, 3, "float32")


def recording(name, n_windows):
    return EmbeddedRecording(name, "ok", "", (), 0.2 * n_windows, 10, 20, n_windows)


def add(folder, name, rows):
    with write_part(folder, "part", HEADER) as writer:
        writer.append(np.asarray(rows, np.float32))
        writer.end_recording(recording(name, len(rows)), [(0.2 * i, 0.2 * i + 0.2) for i in range(len(rows))])


@pytest.fixture
def folder(tmp_path):
    create_store(tmp_path / "store", HEADER)
    add(tmp_path / "store", "a.wav", [[1, 2, 3], [4, 5, 6]])
    add(tmp_path / "store", "b/ü\n.wav", [[7, 8, 9]])
    return tmp_path / "store"


def test_rows_come_back_by_number_in_any_order(folder):
    store = open_store(folder)
    assert len(store) == 3 and [each.path for each in store.recordings] == ["a.wav", "b/ü\n.wav"]
    np.testing.assert_array_equal(store.embeddings([2, 0, 2]), [[7, 8, 9], [1, 2, 3], [7, 8, 9]])
    np.testing.assert_array_equal(store.recording, [0, 0, 1])


def test_a_recording_embedded_again_counts_with_its_newest_part(folder):
    add(folder, "a.wav", [[9, 9, 9]])
    store = open_store(folder)
    np.testing.assert_array_equal(store.recording, [-1, -1, 0, 1])
    assert [each.path for each in store.recordings] == ["b/ü\n.wav", "a.wav"]
    assert embedded_recordings(folder)["a.wav"].n_windows == 1


def test_windows_of_an_incomplete_recording_are_dropped(folder):
    with write_part(folder, "part", HEADER) as writer:
        writer.append(np.ones((2, 3)))
        writer.end_recording(recording("c.wav", 1), [(0.0, 0.2)])
        writer.append(np.full((5, 3), 2.0))
    np.testing.assert_array_equal(open_store(folder).embeddings()[3:], [[1, 1, 1]])


def test_an_exception_leaves_no_part(folder):
    with pytest.raises(RuntimeError), write_part(folder, "part", HEADER) as writer:
        writer.append(np.ones((2, 3)))
        raise RuntimeError
    assert len(list((folder / "parts").iterdir())) == 4


@pytest.mark.parametrize(
    ("field", "value"), [("identity", "other"), ("hop_s", 0.1), ("width", 4), ("dtype", "float16"), ("segment_s", 1.0)]
)
def test_a_store_of_another_encoder_or_setting_is_refused(folder, field, value):
    with pytest.raises(UserError, match=f"store with {field} .* was asked for"):
        create_store(folder, dataclasses.replace(HEADER, **{field: value}))
    create_store(folder, dataclasses.replace(HEADER, path="/moved.onnx"))


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        create_store(tmp_path, HEADER)
    with pytest.raises(UserError, match=r"store \(birdnet-fs embed\) with store.json was expected"):
        open_store(tmp_path)


def test_an_empty_store_is_refused(tmp_path):
    create_store(tmp_path / "s", HEADER)
    with pytest.raises(UserError, match="holds no embeddings yet"):
        open_store(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2, written by birdnet_fs"),
        ({"format": "1"}, "does not describe a store"),
        ({"width": 0}, "'width' is missing or wrong"),
        ({"width": 1e300}, "'width' is missing or wrong"),
        ({"dtype": "float64"}, "'dtype' must be float16 or float32"),
        ({"identity": None}, "'identity' is missing or wrong"),
    ],
)
def test_a_wrong_header_is_refused(folder, change, message):
    file = folder / "store.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        open_store(folder)


@pytest.mark.parametrize("which", ["bin", "parquet"])
def test_a_damaged_part_is_named(folder, which):
    file = folder / "parts" / f"part-000000.{which}"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"part-000000\.parquet is damaged"):
        open_store(folder)
