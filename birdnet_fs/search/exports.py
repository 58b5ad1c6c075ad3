"""Exports of a store for other programs; windows of recordings that were embedded again later are left out."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.search.hoplite import usearch_index, write_hoplite
from birdnet_fs.search.store import Store, valid_blocks

EXPORTS = "exports"  # folder in the store
TIMES = ("recording", "start_s", "end_s")


def check_exports(names: str) -> tuple[str, ...]:
    """Names of formats, separated by commas.

    Args:
        names: Keys of `FORMATS`; "" = none.

    Returns:
        The names, each once.

    Raises:
        UserError: A name is not a format, or `usearch` is missing for hoplite.
    """
    found = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in found:
        if name not in FORMATS:
            raise UserError(f"--to must be {', '.join(FORMATS)}, or several with commas. Received: {name!r}")
    if "hoplite" in found:
        usearch_index()
    return found


def export_store(store: Store, name: str) -> Path:
    """Write one export, which replaces an earlier one.

    Args:
        store: The store.
        name: A key of `FORMATS`.

    Returns:
        The file, or the folder of hoplite, in `STORE/exports`.
    """
    folder = store.path / EXPORTS
    folder.mkdir(exist_ok=True)
    return FORMATS[name](store, folder)


def _window(store: Store, row: int) -> list[str]:
    recording = store.recordings[store.recording[row]].path
    return [recording, f"{store.start_s[row]:.3f}", f"{store.end_s[row]:.3f}"]


def _csv(store: Store, folder: Path) -> Path:
    path = folder / "embeddings.csv"
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow([*TIMES, *(f"e{column}" for column in range(store.header.width))])
        for rows, embeddings in valid_blocks(store):
            for row, values in zip(rows, embeddings, strict=True):
                writer.writerow([*_window(store, row), *(f"{value:.9g}" for value in values.tolist())])
    return path


def _npy(store: Store, folder: Path) -> Path:
    path, windows = folder / "embeddings.npy", folder / "windows.csv"
    shape = (int((store.recording >= 0).sum()), store.header.width)
    with atomic_path(path) as part, open(part, "wb") as file:
        descr = np.lib.format.dtype_to_descr(np.dtype(store.header.dtype))
        np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        for _, embeddings in valid_blocks(store):
            file.write(embeddings.astype(store.header.dtype).tobytes())
    with atomic_path(windows) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(TIMES)
        writer.writerows(_window(store, row) for row in np.flatnonzero(store.recording >= 0).tolist())
    return path


def _parquet(store: Store, folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path, width = folder / "embeddings.parquet", store.header.width
    fields = [("recording", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64())]
    schema = pa.schema([*fields, ("embedding", pa.list_(pa.float32(), width))])
    with atomic_path(path) as part, pq.ParquetWriter(part, schema) as writer:
        for rows, embeddings in valid_blocks(store):
            paths = (store.recordings[number].path for number in store.recording[rows])
            columns = [
                pa.array([name.encode("utf-8", "backslashreplace").decode() for name in paths], pa.string()),
                pa.array(store.start_s[rows]),
                pa.array(store.end_s[rows]),
                pa.FixedSizeListArray.from_arrays(pa.array(embeddings.ravel()), width),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))
    return path


def _hoplite(store: Store, folder: Path) -> Path:
    write_hoplite(store, folder / "hoplite")
    return folder / "hoplite"


FORMATS: Mapping[str, Callable[[Store, Path], Path]] = {
    "csv": _csv,
    "parquet": _parquet,
    "npy": _npy,
    "hoplite": _hoplite,
}
