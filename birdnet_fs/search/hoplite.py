"""Databases of perch-hoplite 1.0.2 (package of PyPI): written from a store, and read as one.

A database is a folder with `hoplite.sqlite` (deployments, recordings, windows with offsets of two little-endian
float64) and `usearch.index` (embeddings in float16 under the id of their window, for inner products). It names the
model in words of its own, so that an encoder cannot be proven to be the one that it was made with, unless it was
written here: then the table of metadata holds the header of the store.
"""

import contextlib
import dataclasses
import json
import shutil
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.search.inner_products import norms
from birdnet_fs.search.kinds import HOPLITE_SQLITE
from birdnet_fs.search.store import EmbeddedRecording, Store, StoreHeader, valid_blocks

HOPLITE_INDEX = "usearch.index"
CONFIG_KEY, HEADER_KEY = "usearch_config", "birdnet_fs_store"
EXPANSION_ADD, EXPANSION_SEARCH = 256, 128  # perch-hoplite's defaults
_TABLES = """
CREATE TABLE hoplite_metadata (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE deployments (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, project TEXT NOT NULL,
  latitude REAL, longitude REAL, UNIQUE (name, project));
CREATE TABLE recordings (id INTEGER PRIMARY KEY AUTOINCREMENT, filename TEXT NOT NULL, datetime TEXT,
  deployment_id INTEGER REFERENCES deployments(id) ON DELETE CASCADE, UNIQUE (id, deployment_id),
  UNIQUE (filename, deployment_id));
CREATE TABLE windows (id INTEGER PRIMARY KEY AUTOINCREMENT,
  recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE, offsets FLOAT_LIST NOT NULL,
  UNIQUE (id, recording_id, offsets));
CREATE TABLE annotations (id INTEGER PRIMARY KEY AUTOINCREMENT,
  recording_id INTEGER NOT NULL REFERENCES recordings(id) ON DELETE CASCADE, offsets FLOAT_LIST NOT NULL,
  label TEXT NOT NULL, label_type INTEGER NOT NULL, provenance TEXT NOT NULL, UNIQUE (id, recording_id, offsets));
CREATE INDEX idx_annotations ON annotations(recording_id, offsets, label, label_type, provenance);
CREATE INDEX idx_labels ON annotations(label, label_type, provenance);
CREATE INDEX idx_recordings_deployment_id ON recordings(deployment_id);
CREATE INDEX idx_windows_recording_id ON windows(recording_id);
"""


def usearch_index() -> Any:
    """Find usearch.

    Returns:
        Its module `usearch.index`.

    Raises:
        UserError: usearch is not installed.
    """
    try:
        from usearch import index
    except ImportError:
        raise UserError(
            'Databases of perch-hoplite need usearch; install it with `pip install "birdnet_fs[hoplite]"`.'
        ) from None
    return index


class IndexRows:
    """The embeddings of an index in the order of given keys, read from the mapped file when they are indexed.

    Args:
        index: A `usearch.index.Index`.
        keys: Ids of windows, int [n].
    """

    dtype = np.dtype(np.float16)

    def __init__(self, index: Any, keys: np.ndarray) -> None:
        self._index, self._keys = index, keys.astype(np.uint64)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, rows: Any) -> np.ndarray:
        keys = self._keys[rows]
        if not len(keys):
            return np.empty((0, self._index.ndim), np.float16)
        return np.asarray(self._index.get(keys), np.float16).reshape(len(keys), -1)


def write_hoplite(store: Store, folder: Path) -> None:
    """Write a store as a database of perch-hoplite; one that is there is replaced.

    The first folder of a recording is its deployment, as perch-hoplite has it, else the name of the store.

    Args:
        store: The store.
        folder: Folder of the database.
    """
    usearch = usearch_index()
    work = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    index = usearch.Index(
        ndim=store.header.width,
        metric=usearch.MetricKind.IP,
        dtype=usearch.ScalarKind.F16,
        expansion_add=EXPANSION_ADD,
        expansion_search=EXPANSION_SEARCH,
    )
    config = {
        "embedding_dim": store.header.width,
        "dtype": "float16",
        "metric_name": "IP",
        "expansion_add": EXPANSION_ADD,
        "expansion_search": EXPANSION_SEARCH,
    }
    project = store.path.name or "store"
    with contextlib.closing(sqlite3.connect(work / HOPLITE_SQLITE)) as database:
        database.executescript(_TABLES)
        metadata = ((CONFIG_KEY, config), (HEADER_KEY, asdict(store.header)))
        database.executemany("INSERT INTO hoplite_metadata VALUES (?, ?)", [(k, json.dumps(v)) for k, v in metadata])
        deployments: dict[str, int] = {}
        for number, each in enumerate(store.recordings, 1):
            name = _text(each.path)
            deployment = name.split("/")[0] if "/" in name.lstrip("/") and not name.startswith("/") else project
            if deployment not in deployments:
                deployments[deployment] = len(deployments) + 1
                row = (deployments[deployment], deployment, project)
                database.execute("INSERT INTO deployments (id, name, project) VALUES (?, ?, ?)", row)
            about = (number, name, deployments[deployment])
            database.execute("INSERT INTO recordings (id, filename, deployment_id) VALUES (?, ?, ?)", about)
        for rows, embeddings in valid_blocks(store):
            spans = np.stack([store.start_s[rows], store.end_s[rows]], axis=1).astype("<f8")
            windows = zip((rows + 1).tolist(), (store.recording[rows] + 1).tolist(), spans, strict=True)
            database.executemany("INSERT INTO windows VALUES (?, ?, ?)", ((k, r, s.tobytes()) for k, r, s in windows))
            index.add((rows + 1).astype(np.uint64), embeddings.astype(np.float16))
        database.commit()
    index.save(str(work / HOPLITE_INDEX))
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


def _text(path: str) -> str:
    """A path with bytes that are not UTF-8 as escapes, since SQLite holds text."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def read_hoplite(path: Path) -> Store:
    """Open a database of perch-hoplite as a store; its embeddings stay in the file.

    Args:
        path: Folder of the database.

    Returns:
        The store; `header.identity` is "" unless the database was written by `write_hoplite`.

    Raises:
        UserError: usearch is missing, the database is damaged or of another kind, or holds no windows.
    """
    usearch = usearch_index()
    shown = escaped(path)
    damaged = f"{shown} is not a database of perch-hoplite that can be read"
    if not (path / HOPLITE_INDEX).is_file():
        raise UserError(f"{damaged}: {HOPLITE_INDEX} is missing.")
    try:
        with contextlib.closing(_connected(path / HOPLITE_SQLITE)) as database:
            metadata = {key: json.loads(value) for key, value in database.execute("SELECT * FROM hoplite_metadata")}
            names = database.execute("SELECT id, filename FROM recordings ORDER BY id").fetchall()
            query = "SELECT id, recording_id, offsets FROM windows ORDER BY recording_id, id"
            windows = database.execute(query).fetchall()
        config = metadata[CONFIG_KEY]
        width = int(config["embedding_dim"])
        if config["dtype"] != "float16" or config["metric_name"] != "IP":
            found = f"{config['dtype']}, {config['metric_name']}"
            raise UserError(f"{damaged}: float16 and IP were expected. Received: {escaped(found)}")
        if not windows:
            raise UserError(f"{shown} holds no windows; embed recordings with perch-hoplite.")
        keys, owners = (np.array([row[i] for row in windows], np.int64) for i in (0, 1))
        spans = np.stack([np.frombuffer(row[2], "<f8", 2) for row in windows])
        index = usearch.Index.restore(str(path / HOPLITE_INDEX), view=True)
        if index is None or index.ndim != width or not np.all(index.contains(keys.astype(np.uint64))):
            raise UserError(f"{damaged}: {HOPLITE_INDEX} does not hold the embeddings of all windows.")
    except UserError:  # a ValueError too, but with its own message
        raise
    except (sqlite3.Error, ValueError, KeyError, TypeError, IndexError, RuntimeError, OverflowError) as error:
        raise UserError(f"{damaged} ({escaped(str(error))[:200]}).") from None
    numbers = {identifier: number for number, (identifier, _) in enumerate(names)}
    if not set(owners.tolist()) <= set(numbers):
        raise UserError(f"{damaged}: windows belong to recordings that it does not list.")
    order = np.lexsort((spans[:, 0], owners))
    keys, owners, spans = keys[order], owners[order], spans[order]
    rows = IndexRows(index, keys)
    lengths = norms([rows])
    if not np.isfinite(lengths).all() or not np.isfinite(spans).all():
        raise UserError(f"{damaged}: embeddings or times are NaN or infinite.")
    which = np.array([numbers[owner] for owner in owners.tolist()], np.int32)
    counts = np.bincount(which, minlength=len(names))
    ends = np.zeros(len(names))
    np.maximum.at(ends, which, spans[:, 1])
    recordings = tuple(
        EmbeddedRecording(
            name,
            *(("ok", "") if counts[i] else ("quarantined", "the database has no window of it")),
            (),
            float(ends[i]),
            0,
            0,
            "",
            "",
            int(counts[i]),
        )
        for i, (_, name) in enumerate(names)
    )
    header = _header(metadata, width, spans, which)
    return Store(path, header, recordings, which, spans[:, 0], spans[:, 1], (rows,), lengths)


def _connected(file: Path) -> sqlite3.Connection:
    """Open a database without writing to it."""
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)


def _header(metadata: dict[str, Any], width: int, spans: np.ndarray, which: np.ndarray) -> StoreHeader:
    """Header of the encoder by the metadata of the database."""
    given = metadata.get(HEADER_KEY)
    names = {field.name for field in dataclasses.fields(StoreHeader)}
    if isinstance(given, dict) and set(given) == names:
        return StoreHeader(**{**given, "dtype": "float16", "width": width})
    model = metadata.get("model_config")
    name = str(model.get("model_key", "unknown")) if isinstance(model, dict) else "unknown"
    steps = np.diff(spans[:, 0])[np.diff(which) == 0]
    segment_s = float(np.median(spans[:, 1] - spans[:, 0]))
    hop_s = float(np.median(steps)) if len(steps) else segment_s
    return StoreHeader(name, "", "", "", "", 0, segment_s, hop_s, width, "float16")
