"""The embedding store: a folder with the embeddings of the windows of any number of recordings.

STORE/store.json names the encoder that made it. STORE/parts holds pairs of files: `NAME.parquet` has one row per window
(recording, start_s, end_s) and, in its metadata, the ledger of the recordings it covers; `NAME.bin` holds the
embeddings [n_windows, width] in the same order, float16 or float32, little endian, and is mapped into memory;
`NAME.norms` holds their Euclidean lengths, float32. A part is valid once its Parquet file exists, which is written
last, so that an interrupt loses no more than the part in work.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.json_file import read_json
from birdnet_fs.core.text import escaped
from birdnet_fs.search.inner_products import Rows, widened
from birdnet_fs.search.kinds import STORE

PARTS = "parts"
FORMAT = 2  # 1 had no norms, and no hashes of the recordings
DTYPES = ("float16", "float32")
LEDGER_KEY = b"birdnet_fs_ledger"


@dataclass(frozen=True)
class StoreHeader:
    """Encoder and settings of a store; the content of store.json.

    Attributes:
        encoder: Name of the encoder's card, or of a run.
        path: Path of the encoder or run when the store was created.
        card: Card that was named for it; "" = found by its content.
        identity: Identity of the encoder (file and card).
        license: License of the encoder; "" for a run.
        sample_rate_hz: Sample rate of the encoder, Hz.
        segment_s: Length of a window, seconds.
        hop_s: Seconds from one window to the next.
        width: Number of values of an embedding.
        dtype: "float16" or "float32".
    """

    encoder: str
    path: str
    card: str
    identity: str
    license: str
    sample_rate_hz: int
    segment_s: float
    hop_s: float
    width: int
    dtype: str


@dataclass(frozen=True)
class EmbeddedRecording:
    """The outcome of one recording: its row of the ledger, what it is recognized by, its number of windows."""

    path: str  # relative to `root`; POSIX separators
    status: str
    reason: str
    flags: tuple[str, ...]
    duration_s: float
    n_bytes: int
    mtime_ns: int
    head: str  # hash of its first part
    tail: str  # hash of its last part (analysis.resume.Content)
    n_windows: int
    root: str = ""  # folder of the inputs when it was embedded, absolute; "" = unknown


@dataclass(frozen=True, eq=False)
class Store:
    """An opened store.

    Attributes:
        path: The folder.
        header: Encoder and settings of the store.
        recordings: Outcome of every recording, in the order of the parts.
        recording: int32 [n_windows], index into `recordings` of each window; -1 for a window of a recording that was
            embedded again in a later part, after the file had changed.
        start_s: float64 [n_windows], start of each window.
        end_s: float64 [n_windows], end of each window.
        blocks: The embeddings in consecutive pieces, [n, width] each, mapped into memory.
        norms: float32 [n_windows], Euclidean length of each embedding.
    """

    path: Path
    header: StoreHeader
    recordings: tuple[EmbeddedRecording, ...]
    recording: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    blocks: tuple[Rows, ...]
    norms: np.ndarray

    def __len__(self) -> int:
        return len(self.start_s)

    def embeddings(self, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """Copies of embeddings.

        Args:
            rows: Window numbers [n]. Default: None, all.

        Returns:
            float32 [n, width].
        """
        firsts = np.cumsum([0, *(len(block) for block in self.blocks)])
        wanted = np.arange(len(self)) if rows is None else np.asarray(rows)
        found = np.empty((len(wanted), self.header.width), np.float32)
        which = np.searchsorted(firsts, wanted, side="right") - 1
        for index in np.unique(which):
            here = which == index
            found[here] = self.blocks[index][wanted[here] - firsts[index]]
        return found


def valid_blocks(store: Store) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The windows of a store without those of recordings that were embedded again later, block by block.

    Args:
        store: The store.

    Yields:
        Numbers of windows [n] and their embeddings float32 [n, width], in the order of the store.
    """
    for first, rows in widened(store.blocks):
        valid = store.recording[first : first + len(rows)] >= 0
        yield np.flatnonzero(valid) + first, rows[valid]


def read_header(path: Path) -> StoreHeader:
    """Read store.json.

    Args:
        path: Folder of the store.

    Returns:
        What the store is made with.

    Raises:
        UserError: The folder is no store, or store.json is damaged or of a newer format.
    """
    shown = escaped(path / STORE)
    if not (path / STORE).is_file():
        raise UserError(f"An embedding store (birdnet-fs embed) with {STORE} was expected. Received: {escaped(path)}")
    found = read_json(path / STORE, "embed the recordings again")
    if not isinstance(found, dict) or not isinstance(found.get("format"), int):
        raise UserError(f"{shown} does not describe a store; embed the recordings again.")
    if found["format"] != FORMAT:
        raise UserError(
            f"{shown} has format {found['format']}, written by birdnet_fs {escaped(found.get('birdnet_fs'))}; this "
            f"version reads format {FORMAT}; use that version, or embed the recordings into another folder."
        )
    kinds = dict(StoreHeader.__annotations__)
    for key, kind in kinds.items():
        value = found.get(key)
        right = isinstance(value, (int, float) if kind is float else kind) and not isinstance(value, bool)
        if not right or (isinstance(value, (int, float)) and not 0 < value < 1e9):
            raise UserError(f"{shown}: {key!r} is missing or wrong; embed the recordings again.")
    if found["dtype"] not in DTYPES:
        raise UserError(f"{shown}: 'dtype' must be {' or '.join(DTYPES)}. Received: {escaped(found['dtype'])}")
    return StoreHeader(**{key: found[key] for key in kinds})


def open_store(path: Path | str) -> Store:
    """Open a store; parts that are incomplete are left out, embeddings are not read yet.

    A recording that was embedded again after it had changed counts with its newest part only.

    Args:
        path: Folder of the store.

    Returns:
        The store.

    Raises:
        UserError: The folder is no store, a part is damaged, or nothing is embedded yet.
    """
    path = Path(path)
    header = read_header(path)
    recordings: list[EmbeddedRecording] = []
    indices: list[int] = []
    parts = [_read_part(path, name, header) for name in part_names(path)]
    newest = {each.path: number for number, part in enumerate(parts) for each in part.recordings}
    for number, part in enumerate(parts):
        for each in part.recordings:
            valid = newest[each.path] == number
            indices.append(len(recordings) if valid else -1)
            recordings += [each] if valid else []
    if not recordings:
        raise UserError(f"{escaped(path)} holds no embeddings yet; run birdnet-fs embed.")
    counts = [each.n_windows for part in parts for each in part.recordings]
    spans = np.concatenate([part.times for part in parts])
    recording = np.repeat(np.array(indices, np.int32), counts)
    blocks = tuple(part.embeddings for part in parts)
    lengths = np.concatenate([part.norms for part in parts])
    return Store(path, header, tuple(recordings), recording, spans[:, 0], spans[:, 1], blocks, lengths)


def embedded_recordings(path: Path) -> dict[str, EmbeddedRecording]:
    """The newest outcome of every recording in a store, by path; empty for a store without parts."""
    header = read_header(path)
    return {each.path: each for name in part_names(path) for each in _read_part(path, name, header).recordings}


def stored_dtype(header: StoreHeader) -> np.dtype:
    """The type of the values in the files of embeddings."""
    return np.dtype(header.dtype).newbyteorder("<")


@dataclass(frozen=True, eq=False)
class _Part:
    recordings: tuple[EmbeddedRecording, ...]
    times: np.ndarray
    embeddings: np.ndarray
    norms: np.ndarray


def part_names(path: Path) -> Iterator[str]:
    """Names of the valid parts, sorted."""
    folder = path / PARTS
    found = [entry.name for entry in os.scandir(folder)] if folder.is_dir() else []
    yield from sorted(name.removesuffix(".parquet") for name in found if name.endswith(".parquet") and name[0] != ".")


def _read_part(path: Path, name: str, header: StoreHeader) -> _Part:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, data, lengths = (path / PARTS / f"{name}.{kind}" for kind in ("parquet", "bin", "norms"))
    damaged = UserError(
        f"{escaped(file)} is damaged; remove this file, its .bin and its .norms, and run the command again."
    )
    try:
        table = pq.read_table(file)
        rows: list[dict[str, Any]] = json.loads((table.schema.metadata or {})[LEDGER_KEY])
        recordings = tuple(EmbeddedRecording(**{**row, "flags": tuple(row["flags"])}) for row in rows)
        times = np.stack([table[column].to_numpy() for column in ("start_s", "end_s")], axis=1)
        if sum(each.n_windows for each in recordings) != len(times):
            raise damaged
        shape, dtype = (len(times), header.width), stored_dtype(header)
        if data.stat().st_size != len(times) * header.width * dtype.itemsize:
            raise damaged
        embeddings = np.memmap(data, dtype, "r", shape=shape) if len(times) else np.empty(shape, dtype)
        norms = np.fromfile(lengths, "<f4")
        if len(norms) != len(times):
            raise damaged
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        raise damaged from None
    return _Part(recordings, times, embeddings, norms)
