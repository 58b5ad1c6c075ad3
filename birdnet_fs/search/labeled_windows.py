"""Windows of a store that are labeled already, from tables of labels in any layout."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.label_formats import LAYOUTS
from birdnet_fs.data.label_formats.detection import detect_layout
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.schema import Data
from birdnet_fs.search.label_selection import Labeled
from birdnet_fs.search.store import Store

SHARE = 0.5  # of the shorter of window and label: overlap from which a window counts as labeled


def labeled_windows(
    store: Store, tables: Sequence[Path], *, recordings: Path | None = None, classes: Sequence[str] = ()
) -> Labeled:
    """Find the windows of a store that tables label; rows with an empty label are not labeled.

    A row belongs to a recording of the store when its path is that in the store, or is the same file in `recordings`,
    or, for tables without paths, names the only recording of that name.

    Args:
        store: The store.
        tables: Tables of labels, such as those of earlier searches with their labels filled in.
        recordings: Folder of relative paths of recordings in the store. Default: None, unknown.
        classes: Classes whose labels are counted. Default: (), none.

    Returns:
        The windows, and the number of labeled windows of each class.

    Raises:
        UserError: A table does not exist, has times in samples, or none of its recordings is in the store.
    """
    places = _Places(store, recordings)
    rows: dict[int, set[str]] = {}
    for table in tables:
        if not table.is_file():
            raise UserError(f"A table of labels was expected (--labeled). Received: {escaped(table)}, no such file")
        n_labeled = n_found = 0
        for row in _labeled_rows(table):
            n_labeled += 1
            recording = places.recording_of(row, table.parent)
            if recording is None:
                continue
            n_found += 1
            for window in _windows_at(store, places.windows_of(recording), row.onset, row.offset):
                rows.setdefault(int(window), set()).update(row.labels)
        if n_labeled and not n_found:
            raise UserError(
                f"None of the {n_labeled} labeled rows of {escaped(table)} is of a recording in the store; give the "
                "folder that was embedded with --recordings."
            )
        say(f"{escaped(table)}: {n_found} of {n_labeled} labeled rows are in the store.")
    counts = [sum(name in labels for labels in rows.values()) for name in classes]
    return Labeled(np.array(sorted(rows), np.int64), counts)


def _labeled_rows(table: Path) -> list[LabelRow]:
    source = Source(
        Data(root=str(table.parent), table=table.name, multi_label=True), Path(os.path.abspath(table.parent))
    )
    rows = [row for row in LAYOUTS[detect_layout(source)].read(source) if not row.refused and not row.problem]
    rows = [row for row in rows if row.labels or not row.labeled]
    if any(row.in_samples for row in rows):
        raise UserError(f"{escaped(table)} states times in samples; state them in seconds to find the windows.")
    return rows


class _Places:
    """Recordings of the store by path, and their windows."""

    def __init__(self, store: Store, recordings: Path | None) -> None:
        self._by_path = {each.path: number for number, each in enumerate(store.recordings)}
        self._by_file: dict[str, int] = {}
        if recordings is not None:
            self._by_file = {os.path.abspath(recordings / path): number for path, number in self._by_path.items()}
        self._by_name: dict[str, set[int]] = {}
        for path, number in self._by_path.items():
            for name in {PurePosixPath(path).name, PurePosixPath(path).stem}:
                self._by_name.setdefault(name, set()).add(number)
        self._order = np.argsort(store.recording, kind="stable")
        self._sorted = store.recording[self._order]

    def recording_of(self, row: LabelRow, folder: Path) -> int | None:
        """Number of the recording of a row of a table in `folder`; None when it is not in the store."""
        path = row.path.replace("\\", "/")
        if path:
            found = self._by_path.get(path)
            return self._by_file.get(os.path.abspath(folder / path)) if found is None else found
        named = self._by_name.get(row.stem, set())
        return next(iter(named)) if len(named) == 1 else None

    def windows_of(self, recording: int) -> np.ndarray:
        """Numbers of the windows of a recording."""
        first, end = np.searchsorted(self._sorted, [recording, recording + 1])
        return self._order[first:end]


def _windows_at(store: Store, windows: np.ndarray, onset_s: float | None, offset_s: float | None) -> np.ndarray:
    onset_s, offset_s = onset_s or 0.0, float("inf") if offset_s is None else offset_s
    start_s, end_s = store.start_s[windows], store.end_s[windows]
    shared = np.minimum(end_s, offset_s) - np.maximum(start_s, onset_s)
    shorter = np.minimum(end_s - start_s, offset_s - onset_s)
    return windows[(shared > 0) & (shared >= SHARE * shorter - 1e-6)]
