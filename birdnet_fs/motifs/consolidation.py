"""One Parquet table of all mined recordings: a row for each, with its matrix profile."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.lock import folder_lock
from birdnet_fs.core.progress import say, track
from birdnet_fs.core.text import escaped
from birdnet_fs.motifs.mined_folder import PLACES, MinedRecording, mined_recordings

TABLE = "motif-consolidated.parquet"
ROWS = 256  # recordings of a row group: their profiles are in memory at the same time


def consolidate(folder: Path, output: Path) -> int:
    """Write the table.

    Args:
        folder: Output of `birdnet-fs motifs extract`.
        output: Parquet file, replaced whole. Columns: source_name, label, feature, cens_sample_rate (frames a second),
            matrix_profile_window (frames), sample_rate, duration_cens (frames), duration_samples, duration_seconds;
            motif_0, motif_1, discord_0, discord_1 (frames, null where there is none) and motif_0_s ... (seconds);
            mean_distance; mp (list of float64, squared distances) and pi (list of int64, frames of the neighbors, -1
            without one).

    Returns:
        Number of rows. Recordings whose files are damaged are named on stderr and left out.

    Raises:
        UserError: pyarrow is missing, or the folder is none of mined recordings or has none.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UserError(
            'A table of motifs is a Parquet file; install pyarrow with: pip install "birdnet_fs[motifs]"'
        ) from None
    numbers = {"matrix_profile_window": pa.int64(), "sample_rate": pa.int64(), "duration_cens": pa.int64()}
    schema = pa.schema(
        {
            "source_name": pa.string(),
            "label": pa.string(),
            "feature": pa.string(),
            "cens_sample_rate": pa.float64(),
            **numbers,
            "duration_samples": pa.int64(),
            "duration_seconds": pa.float64(),
            **dict.fromkeys(PLACES, pa.int64()),
            **{f"{name}_s": pa.float64() for name in PLACES},
            "mean_distance": pa.float64(),
            "mp": pa.list_(pa.float64()),
            "pi": pa.list_(pa.int64()),
        }
    )
    n = 0
    found = _rows(track(mined_recordings(folder), "consolidate", unit="recording"))
    with folder_lock(output), atomic_path(output) as part, pq.ParquetWriter(part, schema) as writer:
        while rows := list(itertools.islice(found, ROWS)):
            writer.write_table(pa.Table.from_pylist(rows, schema))
            n += len(rows)
        if not n:
            raise UserError(f"{escaped(folder)} holds no mined recording.")
    return n


def _rows(recordings: Iterable[MinedRecording]) -> Iterator[dict[str, Any]]:
    for each in recordings:
        try:
            profile = each.profile()
        except UserError as error:
            say(f"A recording is left out: {error}")
            continue
        seconds = {f"{name}_s": each.place_s(name) for name in PLACES}
        yield {**each.metadata, **seconds, "mp": profile.distances, "pi": profile.neighbors}
