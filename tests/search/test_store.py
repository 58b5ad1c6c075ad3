"""The store: rows by number, the newest part of a recording, and files that are damaged or of a newer version."""

import json

import embedding_store
import numpy as np
import pytest
import tolerances

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.store import embedded_recordings, open_store
from birdnet_fs.search.write_store import create_store


@pytest.fixture
def folder(tmp_path):
    return embedding_store.two_parts(tmp_path / "store")


def test_rows_come_back_by_number_in_any_order(folder):
    store = open_store(folder)
    assert len(store) == 3 and [each.path for each in store.recordings] == ["a.wav", "b/ü\n.wav"]
    np.testing.assert_array_equal(store.embeddings([2, 0, 2]), [[7, 8, 9], [1, 2, 3], [7, 8, 9]])
    np.testing.assert_array_equal(store.recording, [0, 0, 1])
    np.testing.assert_allclose(store.norms, np.sqrt([14, 77, 194]), rtol=tolerances.INNER_PRODUCTS)


def test_a_recording_embedded_again_counts_with_its_newest_part(folder):
    embedding_store.add_part(folder, "a.wav", [[9, 9, 9]])
    store = open_store(folder)
    np.testing.assert_array_equal(store.recording, [-1, -1, 0, 1])
    assert [each.path for each in store.recordings] == ["b/ü\n.wav", "a.wav"]
    assert embedded_recordings(folder)["a.wav"].n_windows == 1


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        create_store(tmp_path, embedding_store.STORE_HEADER)
    with pytest.raises(UserError, match=r"store \(birdnet-fs embed\) with store.json was expected"):
        open_store(tmp_path)


def test_an_empty_store_is_refused(tmp_path):
    create_store(tmp_path / "s", embedding_store.STORE_HEADER)
    with pytest.raises(UserError, match="holds no embeddings yet"):
        open_store(tmp_path / "s")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 1}, "has format 1, written by birdnet_fs"),
        ({"format": 3}, "has format 3, .* this version reads format 2"),
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


@pytest.mark.parametrize("which", ["bin", "parquet", "norms"])
def test_a_damaged_part_is_named(folder, which):
    file = folder / "parts" / f"part-000000.{which}"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"part-000000\.parquet is damaged"):
        open_store(folder)
