"""Which windows tables label: by path, by file and by name, with overlap, and without empty labels."""

import embedding_store
import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.labeled_windows import labeled_windows
from birdnet_fs.search.store import open_store
from birdnet_fs.search.write_store import create_store


@pytest.fixture
def store(tmp_path):
    """Windows 0 to 4 of sub/a.wav and 5 to 7 of b.wav, .2 s each."""
    create_store(tmp_path / "store", embedding_store.STORE_HEADER)
    embedding_store.add_part(tmp_path / "store", "sub/a.wav", np.ones((5, 3)))
    embedding_store.add_part(tmp_path / "store", "b.wav", np.ones((3, 3)))
    return open_store(tmp_path / "store")


def write(path, *rows, header="recording,start_s,end_s,label"):
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_labels_and_no_call_count_and_empty_labels_do_not(tmp_path, store):
    table = write(tmp_path / "t.csv", "sub/a.wav,0.2,0.4,owl;tit", "sub/a.wav,0.6,0.8,", "b.wav,0.2,0.4,noise")
    more = write(tmp_path / "more.csv", "sub/a.wav,0.2,0.4,owl", "b.wav,0,0.2,owl")
    found = labeled_windows(store, [table, more], classes=("owl", "tit", "wren"))
    assert found.rows.tolist() == [1, 5, 6] and list(found.n_positives) == [2, 1, 0]


@pytest.mark.parametrize(
    ("start", "end", "rows"),
    [
        ("0.25", "0.28", [1]),
        ("0.1", "0.3", [0, 1]),
        ("0.05", "0.34", [0, 1]),
        ("", "", [0, 1, 2, 3, 4]),
        ("9", "9.1", []),
    ],
)
def test_a_window_is_labeled_from_half_of_the_shorter_on(tmp_path, store, start, end, rows):
    found = labeled_windows(store, [write(tmp_path / "t.csv", f"sub/a.wav,{start},{end},owl")])
    assert found.rows.tolist() == rows


def test_recordings_are_found_by_their_file_and_by_name_without_paths(tmp_path, store):
    (tmp_path / "found").mkdir()
    table = write(tmp_path / "found" / "t.csv", f"{tmp_path}/in/sub/a.wav,0,0.2,owl", "../in/b.wav,0,0.2,owl")
    assert labeled_windows(store, [table], recordings=tmp_path / "in").rows.tolist() == [0, 5]
    with pytest.raises(UserError, match=r"None of the 2 labeled rows .* with --recordings"):
        labeled_windows(store, [table])
    lines = ["Selection\tBegin Time (s)\tEnd Time (s)\tAnnotation", "1\t0.2\t0.4\towl"]
    (tmp_path / "b.Table.1.selections.txt").write_text("\n".join(lines) + "\n")
    assert labeled_windows(store, [tmp_path / "b.Table.1.selections.txt"]).rows.tolist() == [6]


def test_tables_that_cannot_be_used_are_refused(tmp_path, store):
    with pytest.raises(UserError, match=r"--labeled.*no such file"):
        labeled_windows(store, [tmp_path / "gone.csv"])
    table = write(tmp_path / "t.csv", "b.wav,0,9,owl", header="file,start_samples,end_samples,label")
    with pytest.raises(UserError, match="times in samples"):
        labeled_windows(store, [table])
    assert len(labeled_windows(store, [write(tmp_path / "e.csv", "b.wav,0,0.2,")]).rows) == 0
