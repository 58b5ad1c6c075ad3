"""Exports of a store, read back with the csv module, NumPy and pyarrow."""

import csv

import embedding_store
import numpy as np
import pyarrow.parquet as pq
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.search import exports, hoplite
from birdnet_fs.search.exports import check_exports, export_store
from birdnet_fs.search.store import open_store

ROWS = np.array([[7, 8, 9], [0.1, 2, 3]], np.float32)  # a.wav was embedded again after b


@pytest.fixture
def store(tmp_path):
    folder = embedding_store.two_parts(tmp_path / "store")
    embedding_store.add_part(folder, "a.wav", ROWS[1:])
    return open_store(folder)


def test_csv_holds_every_digit_of_the_windows_that_are_valid(store):
    with open(export_store(store, "csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["recording"], row["start_s"], row["end_s"]) for row in rows] == [
        ("b/ü\n.wav", "0.000", "0.200"),
        ("a.wav", "0.000", "0.200"),
    ]
    found = np.array([[row[f"e{i}"] for i in range(3)] for row in rows]).astype(np.float32)
    np.testing.assert_array_equal(found, ROWS)


def test_npy_holds_the_array_and_the_windows_beside_it(store):
    path = export_store(store, "npy")
    found = np.load(path)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, ROWS)
    with open(path.parent / "windows.csv", newline="") as file:
        assert [row["recording"] for row in csv.DictReader(file)] == ["b/ü\n.wav", "a.wav"]


def test_parquet_holds_lists_of_float32(store):
    table = pq.read_table(export_store(store, "parquet"))
    assert table.column_names == ["recording", "start_s", "end_s", "embedding"]
    np.testing.assert_array_equal(np.array(table["embedding"].to_pylist(), np.float32), ROWS)
    assert table["recording"].to_pylist() == ["b/ü\n.wav", "a.wav"]


def test_an_export_does_not_change_the_store(store):
    export_store(store, "csv")
    np.testing.assert_array_equal(open_store(store.path).embeddings(), store.embeddings())


def test_unknown_formats_and_a_missing_package_are_refused(monkeypatch):
    assert check_exports(" csv,npy,csv") == ("csv", "npy") and check_exports("") == ()
    with pytest.raises(UserError, match=r"--to must be csv, parquet, npy, hoplite.*Received: 'xls'"):
        check_exports("csv,xls")
    monkeypatch.setitem(__import__("sys").modules, "usearch", None)
    with pytest.raises(UserError, match=r'install it with `pip install "birdnet_fs\[hoplite\]"`'):
        check_exports("hoplite")
    assert exports.usearch_index is hoplite.usearch_index
