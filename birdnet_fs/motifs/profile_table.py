"""The consolidated table of mined recordings as `motifs consolidate` writes it: one row per recording, in Parquet."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

# columns that triplets need; a table may have more
COLUMNS = ("source_name", "cens_sample_rate", "matrix_profile_window", "duration_seconds", "motif_0", "motif_1")
PROFILE = "pi"  # column of the neighbors, needed where slices are drawn from the recordings themselves


@dataclass(frozen=True, eq=False)
class ProfileRow:
    """A mined recording.

    Attributes:
        source_name: Path of the recording relative to the folder of recordings.
        label: Class of the recording; "" where it has none.
        duration_s: Length in seconds.
        window_s: Length of a window of the matrix profile in seconds.
        window: Length of a window of the matrix profile in frames.
        motif_s: Starts of the motif and of its neighbor in seconds; None for a recording without a motif.
        neighbors: int64 [n_windows], first frame of the neighbor of each window, -1 for none; empty if not read.
    """

    source_name: str
    label: str
    duration_s: float
    window_s: float
    window: int
    motif_s: tuple[float, float] | None
    neighbors: NDArray[np.int64]


def read_profile_table(path: Path | str, *, profiles: bool = False) -> list[ProfileRow]:
    """Read a consolidated table.

    A row's class is its `label`, or the first folder of its `source_name` where the table has no label.

    Args:
        path: The Parquet file.
        profiles: Whether to read the neighbors of all windows. Default: False.

    Returns:
        The rows, in order.

    Raises:
        UserError: pyarrow is missing, the file is missing, is no Parquet file, lacks a column or has no row, or a
            number is out of range.
    """
    wanted = (*COLUMNS, *([PROFILE] if profiles else []))
    table = read_parquet(path, wanted, ("label",))
    rows = []
    for number, row in enumerate(zip(*table.values(), strict=True)):
        cells = dict(zip(table, row, strict=True))
        rate, window, length = cells["cens_sample_rate"], cells["matrix_profile_window"], cells["duration_seconds"]
        if not (rate and rate > 0 and window and window >= 1 and length is not None and length >= 0):
            raise UserError(
                f"{escaped(path)}, row {number}: cens_sample_rate and matrix_profile_window must be above 0 and "
                f"duration_seconds 0 or more. Received: {rate}, {window}, {length}"
            )
        places = (cells["motif_0"], cells["motif_1"])
        name = PurePath(cells["source_name"])
        rows.append(
            ProfileRow(
                source_name=cells["source_name"],
                label=cells.get("label") or (name.parts[0] if len(name.parts) > 1 else ""),
                duration_s=float(length),
                window_s=float(window) / float(rate),
                window=int(window),
                motif_s=None if None in places else (float(places[0]) / rate, float(places[1]) / rate),
                neighbors=np.asarray(cells.get(PROFILE) or (), np.int64),
            )
        )
    if not rows:
        raise UserError(f"{escaped(path)} has no rows; mine recordings first (motifs extract, motifs consolidate).")
    return rows


def read_parquet(path: Path | str, wanted: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Read columns of a Parquet file.

    Args:
        path: The file.
        wanted: Names of the columns.
        optional: Names of columns that the file may lack. Default: ().

    Returns:
        Values by column, None for an empty cell; columns that the file lacks are left out.

    Raises:
        UserError: pyarrow is missing, the file is missing, is no Parquet file, or lacks a column that is wanted.
    """
    present = parquet_columns(path)
    import pyarrow
    from pyarrow import parquet

    missing = [name for name in wanted if name not in present]
    if missing:
        raise UserError(f"{escaped(path)} must have the columns {', '.join(wanted)}. Received: none named {missing[0]}")
    names = [*wanted, *(name for name in optional if name in present)]
    try:
        return dict(parquet.read_table(path, columns=names).to_pydict())
    except pyarrow.ArrowException as error:
        raise _damaged(path, error) from None


def parquet_columns(path: Path | str) -> list[str]:
    """Names of the columns of a Parquet file.

    Args:
        path: The file.

    Returns:
        The names, in order.

    Raises:
        UserError: pyarrow is missing, the file is missing, or it is no Parquet file.
    """
    need_pyarrow()
    import pyarrow
    from pyarrow import parquet

    if not Path(path).is_file():
        raise UserError(f"A Parquet file was expected at {escaped(path)}; there is no such file.")
    try:
        return list(parquet.read_schema(path).names)
    except pyarrow.ArrowException as error:
        raise _damaged(path, error) from None


def _damaged(path: Path | str, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or [""])[0][:120]
    return UserError(f"{escaped(path)} cannot be read as a Parquet file ({reason}); write it again.")


def need_pyarrow() -> None:
    """Check that pyarrow is installed.

    Raises:
        UserError: pyarrow is not installed; the message names the extra.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError('Tables of motifs are Parquet files, which need pyarrow: pip install "birdnet_fs[search]"')
