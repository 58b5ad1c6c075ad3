"""Writing of an embedding store: its header, and one part after the other."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json
from birdnet_fs.core.leftovers import is_temporary
from birdnet_fs.core.text import escaped
from birdnet_fs.search.inner_products import norms
from birdnet_fs.search.kinds import STORE
from birdnet_fs.search.store import (
    FORMAT,
    LEDGER_KEY,
    PARTS,
    EmbeddedRecording,
    StoreHeader,
    part_names,
    read_header,
    stored_dtype,
)


def create_store(path: Path, header: StoreHeader) -> None:
    """Create a store, or check that an existing one is made with the same encoder and settings.

    Args:
        path: The folder.
        header: Encoder and settings of the store.

    Raises:
        UserError: The folder holds a store of another encoder or other settings, or something else.
    """
    if (path / STORE).is_file():
        there = read_header(path)
        for key, wanted in asdict(header).items():
            found = getattr(there, key)
            if found != wanted and key not in ("encoder", "path", "card", "license"):  # the identity covers them
                raise UserError(
                    f"{escaped(path)} is a store with {key} {escaped(found)}, and {escaped(wanted)} was asked for; "
                    "give another folder with -o."
                )
        return
    # a process that was killed has left a temporary file or, in earlier versions, an empty folder of parts
    others = [each for each in path.iterdir() if not is_temporary(each.name)] if path.is_dir() else []
    if others and not (others == [path / PARTS] and not any(others[0].iterdir())):
        raise UserError(f"A store or an empty folder was expected; {escaped(path)} holds other files.")
    write_json(path / STORE, {"format": FORMAT, "birdnet_fs": __version__, **asdict(header)})


class PartWriter:
    """Collects one part: windows are appended to a file, so that memory does not grow with a recording.

    Args:
        file: The open file of embeddings.
        header: Encoder and settings of the store.
    """

    def __init__(self, file: BinaryIO, header: StoreHeader) -> None:
        self._file, self._header = file, header
        self.recordings: list[EmbeddedRecording] = []
        self.times: list[tuple[float, float]] = []
        self.norms: list[float] = []

    def append(self, embeddings: np.ndarray) -> None:
        """Append windows [n, width] of the recording in work."""
        limit = np.finfo(self._header.dtype).max
        stored = np.clip(embeddings, -limit, limit).astype(stored_dtype(self._header))
        self.norms += norms([stored]).tolist()
        self._file.write(stored.tobytes())

    def append_stored(self, embeddings: np.ndarray, lengths: np.ndarray) -> None:
        """Append windows of another store of the same header: embeddings [n, width] as stored and their norms [n]."""
        self.norms += lengths.tolist()
        self._file.write(np.ascontiguousarray(embeddings).tobytes())

    def end_recording(self, recording: EmbeddedRecording, spans: Sequence[tuple[float, float]]) -> None:
        """Complete a recording; windows that were appended beyond its spans are dropped.

        Args:
            recording: Outcome of the recording.
            spans: (start, end) of each window in seconds.
        """
        self.times += spans
        self.recordings.append(recording)
        self.drop_rest()

    def drop_rest(self) -> None:
        """Drop windows of a recording that is not complete."""
        del self.norms[len(self.times) :]
        self._file.flush()
        self._file.truncate(len(self.times) * self._header.width * stored_dtype(self._header).itemsize)
        self._file.seek(0, os.SEEK_END)


@contextlib.contextmanager
def write_part(path: Path, header: StoreHeader) -> Iterator[PartWriter]:
    """Context manager for one part of a store, which is valid when the block ends and removed on an exception.

    Args:
        path: Folder of the store.
        header: Encoder and settings of the store.

    Yields:
        The writer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path / PARTS
    taken = [int(name.rsplit("-", 1)[1]) for name in part_names(path)]
    name = f"part-{max(taken, default=-1) + 1:06d}"
    with atomic_path(folder / f"{name}.bin") as part, open(part, "wb") as file:
        writer = PartWriter(file, header)
        yield writer
        writer.drop_rest()
    counts = np.array([each.n_windows for each in writer.recordings], np.int64)
    times = np.array(writer.times, np.float64).reshape(-1, 2)
    numbers = [np.arange(n, dtype=np.int32) for n in counts]
    # bytes that are not UTF-8 are shown as escapes here; the ledger keeps the name
    shown = [each.path.encode("utf-8", "backslashreplace").decode("utf-8") for each in writer.recordings]
    names = pa.array(shown, pa.string())
    columns = {
        "recording": pa.DictionaryArray.from_arrays(
            pa.array(np.repeat(np.arange(len(counts), dtype=np.int32), counts)), names
        ),
        "window": np.concatenate(numbers) if numbers else np.empty(0, np.int32),
        "start_s": times[:, 0],
        "end_s": times[:, 1],
    }
    with atomic_path(folder / f"{name}.norms") as part:
        np.array(writer.norms, "<f4").tofile(part)
    ledger = json.dumps([asdict(each) for each in writer.recordings])
    with atomic_path(folder / f"{name}.parquet") as part:
        pq.write_table(pa.table(columns).replace_schema_metadata({LEDGER_KEY: ledger.encode()}), part)
