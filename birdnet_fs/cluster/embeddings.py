"""Results of shards of `embed`: one row per window with its embedding, and the store that is made of them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from birdnet_fs.analysis.resume import Content
from birdnet_fs.cluster.detections import GONE
from birdnet_fs.cluster.plan import Plan, result_file
from birdnet_fs.cluster.run import Facts, metadata, same_settings
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.progress import track
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.search.embed_recordings import is_full, refuse_other
from birdnet_fs.search.kinds import STORE
from birdnet_fs.search.store import EmbeddedRecording, StoreHeader, embedded_recordings, open_store, stored_dtype
from birdnet_fs.search.write_store import create_store, write_part

GROUP_WINDOWS = 4096  # a row group ends after the recording that reaches this number of windows

_Embedded = tuple[EmbeddedRecording, np.ndarray, np.ndarray, np.ndarray]  # outcome, spans, embeddings, norms


def write_embeddings(work: Path, recordings: Sequence[Path], plan: Plan, file: Path) -> None:
    """Write the result of a shard.

    Args:
        work: Store with the embeddings of its recordings.
        recordings: All recordings of the shard.
        plan: The plan.
        file: The file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = open_store(work) if (work / STORE).is_file() else None
    embedded = () if store is None else store.recordings  # a store without windows is empty, not false
    known = {os.path.join(each.root, each.path): number for number, each in enumerate(embedded)}
    facts: list[Facts] = []
    numbers: list[int] = []  # of the recordings in the store
    for path in recordings:
        number = known.get(os.fspath(path), -1)
        name = os.path.relpath(path, plan.root)
        each = EmbeddedRecording(name, "quarantined", GONE, (), 0.0, 0, 0, "", "", 0)
        content = None
        if store is not None and number >= 0:
            each = store.recordings[number]
            content = asdict(Content("", each.n_bytes, each.mtime_ns, each.head, each.tail)) if each.head else None
        numbers.append(number)
        outcome = asdict(each) | {"path": Path(name).as_posix(), "root": plan.root}
        facts.append({"path": name, "content": content, "outcome": outcome})
    settings = asdict(store.header) if store is not None else None
    width, kind = (store.header.width, store.header.dtype) if store is not None else (0, "float16")
    value = pa.float16() if kind == "float16" else pa.float32()
    names = pa.array([each["path"].encode("utf-8", "backslashreplace").decode() for each in facts], pa.string())
    schema = pa.schema(
        [
            ("recording", pa.dictionary(pa.int32(), pa.string())),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("norm", pa.float32()),
            ("embedding", pa.list_(value, width)),
        ],
        metadata=metadata(plan, settings, facts),
    )
    with atomic_path(file) as part, pq.ParquetWriter(part, schema) as writer:
        if store is None:
            return
        order = np.argsort(store.recording, kind="stable")
        firsts = np.searchsorted(store.recording[order], np.arange(len(store.recordings) + 1))
        group: list[np.ndarray] = []
        owners: list[np.ndarray] = []
        for place, number in enumerate(numbers):
            if number >= 0:
                group.append(order[firsts[number] : firsts[number + 1]])
                owners.append(np.full(len(group[-1]), place, np.int32))
            if sum(map(len, group)) >= GROUP_WINDOWS or (place == len(numbers) - 1 and any(map(len, group))):
                rows = np.concatenate(group)
                values = store.embeddings(rows).astype(kind)
                columns = [
                    pa.DictionaryArray.from_arrays(pa.array(np.concatenate(owners)), names),
                    pa.array(store.start_s[rows]),
                    pa.array(store.end_s[rows]),
                    pa.array(store.norms[rows]),
                    pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), value), width),
                ]
                writer.write_table(pa.Table.from_arrays(columns, schema=schema))
                group, owners = [], []


def merge_embeddings(folder: Path, plan: Plan, output: Path) -> Ledger:
    """Write the store of all recordings from the results of all shards, in the parts that one process writes.

    A store that is there is added to; a merge that was killed goes on after its last part.

    Args:
        folder: Folder of the shards.
        plan: The plan.
        output: Folder of the store.

    Returns:
        The ledger, also written to `output/ledger.csv`.

    Raises:
        UserError: No recording could be read, or as of `same_settings` and `create_store`.
    """
    settings, shards = same_settings(folder, plan)
    if settings is None:
        raise UserError(f"None of the {plan.n_recordings} recordings of {escaped(plan.root)} is there any more.")
    header = StoreHeader(**settings)
    create_store(output, header)
    done, ledger = embedded_recordings(output), Ledger()
    root = Path(plan.root)
    for path, reason in plan.refused:
        ledger.add(path, "quarantined", reason)

    def missing() -> Iterator[_Embedded]:
        for number, facts in track(list(enumerate(shards)), "merge", unit="shard"):
            for found in _read(result_file(folder, number), facts, header):
                each = found[0]
                refuse_other(output, done.get(each.path), root)
                ledger.add(root / each.path, each.status, each.reason, each.flags, each.duration_s)
                if done.get(each.path) != each:
                    yield found

    waiting = missing()
    item = next(waiting, None)
    while item is not None:
        with write_part(output, header) as writer:
            while item is not None and not is_full(writer):
                each, spans, embeddings, norms = item
                writer.append_stored(embeddings, norms)
                writer.end_recording(each, [(float(start), float(end)) for start, end in spans])
                item = next(waiting, None)
    ledger.write(output / "ledger.csv")
    return ledger


def _read(file: Path, facts: Facts, header: StoreHeader) -> Iterator[_Embedded]:
    """Recordings of a shard in order, one row group in memory."""
    import pyarrow.parquet as pq

    opened = pq.ParquetFile(file)
    group, at = -1, 0
    spans, values, norms = np.empty((0, 2)), np.empty((0, header.width)), np.empty(0, np.float32)
    for each in facts["recordings"]:
        recording = EmbeddedRecording(**{**each["outcome"], "flags": tuple(each["outcome"]["flags"])})
        n = recording.n_windows
        if n and at == len(spans):
            group, at = group + 1, 0
            table = opened.read_row_group(group)
            spans = np.stack([table[name].to_numpy() for name in ("start_s", "end_s")], axis=1)
            norms = table["norm"].to_numpy()
            flat = table["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            values = flat.reshape(-1, header.width).astype(stored_dtype(header), copy=False)
        rows = slice(at, at + n)
        at += n
        yield recording, spans[rows], values[rows], norms[rows]
