"""Databases of perch-hoplite: there and back, damaged ones, and both directions against perch-hoplite itself."""

import json
import sqlite3
import sys

import embedding_store
import numpy as np
import perch_hoplite as environment
import pytest
import tolerances
from installed import need

from birdnet_fs.core.errors import UserError
from birdnet_fs.search.exports import export_store
from birdnet_fs.search.hoplite import read_hoplite
from birdnet_fs.search.neighbors import similarities
from birdnet_fs.search.store import open_store
from birdnet_fs.search.write_store import create_store

READ = """
import json, sys
import numpy as np
from perch_hoplite.db.sqlite_usearch_impl import SQLiteUSearchDB
db = SQLiteUSearchDB.create(sys.argv[1])
names = {each.id: each.filename for each in db.get_all_recordings()}
windows = [[names[w.recording_id], list(w.offsets), db.get_embedding(w.id).astype(float).tolist()]
           for w in db.get_all_windows()]
query = np.array(json.loads(sys.argv[2]), np.float32)
found = {kind: [int(r.window_id) for r in sorted(db.search(query, 5, approximate=kind == "approximate"),
         key=lambda r: -r.sort_score)] for kind in ("exact", "approximate")}
spans = {w.id: [names[w.recording_id], list(w.offsets)] for w in db.get_all_windows()}
print(json.dumps({"windows": windows, "found": {kind: [spans[i] for i in ids] for kind, ids in found.items()},
                  "deployments": sorted(d.name for d in db.get_all_deployments())}))
"""
WRITE = """
import sys
import numpy as np
from perch_hoplite.db import sqlite_usearch_impl as impl
db = impl.SQLiteUSearchDB.create(sys.argv[1], usearch_cfg=impl.get_default_usearch_config(16))
rng = np.random.default_rng(0)
deployment = db.insert_deployment(name="site", project="season")
removed = []
for name in ("site/b.wav", "site/a.wav"):
    recording = db.insert_recording(filename=name, deployment_id=deployment)
    for start in (6.0, 0.0, 3.0):
        row = rng.normal(size=16).astype(np.float32)
        removed.append(db.insert_window(recording, [start, start + 3], embedding=row))
db.commit()
db.remove_window(removed[1])
db.commit()
"""


@pytest.fixture
def store(tmp_path):
    rng = np.random.default_rng(1)
    create_store(tmp_path / "season", embedding_store.STORE_HEADER)
    for name, n in (("site/a.wav", 3), ("b.wav", 4), ("site/a.wav", 5)):  # the first part is replaced by the last
        embedding_store.add_part(tmp_path / "season", name, rng.normal(size=(n, 3)))
    return open_store(tmp_path / "season")


@pytest.fixture
def with_usearch(monkeypatch):
    """usearch of this environment, else of that of perch-hoplite, which has the same Python."""
    import importlib.util

    if importlib.util.find_spec("usearch") is None:
        folder = environment.hoplite_python().parent.parent
        monkeypatch.setattr(sys, "path", [*sys.path, *map(str, folder.glob("lib/python*/site-packages"))])


def contents(store):
    """Rows by (recording, start, end), of windows that are valid."""
    keys = (
        (store.recordings[r].path, round(float(s), 6), round(float(e), 6))
        for r, s, e in zip(store.recording, store.start_s, store.end_s, strict=True)
        if r >= 0
    )
    return dict(zip(keys, store.embeddings(np.flatnonzero(store.recording >= 0)).astype(np.float16), strict=True))


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        np.testing.assert_array_equal(found[key], row)


def test_a_store_comes_back_from_a_database(store):
    need("usearch")
    back = read_hoplite(export_store(store, "hoplite"))
    assert_same(contents(back), contents(store))
    assert back.header.identity == store.header.identity and back.header.dtype == "float16"
    query = np.ones(3)
    assert len(contents(store)) == len(back) == 9
    np.testing.assert_allclose(
        np.sort(similarities(back, query).values),
        np.sort(similarities(store, query).values[store.recording >= 0]),
        atol=tolerances.FLOAT16_COSINE,
    )


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM windows", "holds no windows"),
        ("DROP TABLE recordings", "is not a database of perch-hoplite"),
        ("DELETE FROM hoplite_metadata", "is not a database of perch-hoplite"),
        ("DELETE FROM recordings WHERE id = 1", "recordings that it does not list"),
        ("INSERT INTO windows VALUES (999, 1, x'00')", "is not a database of perch-hoplite"),
        ("UPDATE windows SET id = id + 500", "does not hold the embeddings of all windows"),
    ],
)
def test_a_damaged_database_is_refused(store, statement, message):
    need("usearch")
    folder = export_store(store, "hoplite")
    with sqlite3.connect(folder / "hoplite.sqlite") as database:
        database.execute(statement)
    database.close()
    with pytest.raises(UserError, match=message):
        read_hoplite(folder)


@pytest.mark.slow
def test_perch_hoplite_reads_what_is_written_here(store, with_usearch):
    folder = export_store(store, "hoplite")
    query = [1.0, -2.0, 0.5]
    found = json.loads(environment.run_hoplite(READ, str(folder), json.dumps(query)))
    rows = {(name, round(s, 6), round(e, 6)): np.float16(row) for name, (s, e), row in found["windows"]}
    assert_same(rows, contents(store))
    assert found["deployments"] == ["season", "site"]
    products = {key: float(np.float64(row) @ np.array(query)) for key, row in contents(store).items()}
    best = sorted(products, key=lambda key: -products[key])[:5]
    for kind in ("exact", "approximate"):
        assert [(name, round(s, 6), round(e, 6)) for name, (s, e) in found["found"][kind]] == best


@pytest.mark.slow
def test_what_perch_hoplite_writes_is_read_here(tmp_path, with_usearch):
    folder = tmp_path / "database"
    environment.run_hoplite(WRITE, str(folder))
    store = read_hoplite(folder)
    rng = np.random.default_rng(0)
    written = [
        ((name, start, start + 3), rng.normal(size=16).astype(np.float32).astype(np.float16))
        for name in ("site/b.wav", "site/a.wav")
        for start in (6.0, 0.0, 3.0)
    ]
    del written[1]
    assert_same(contents(store), dict(written))
    header = store.header
    assert (header.identity, header.width, header.segment_s, header.hop_s) == ("", 16, 3.0, 3.0)
    similar = similarities(store, written[3][1].astype(np.float32))
    assert similar.values.max() == pytest.approx(1.0, abs=1e-5)
    best = int(similar.values.argmax())
    assert (store.recordings[store.recording[best]].path, store.start_s[best]) == written[3][0][:2]
