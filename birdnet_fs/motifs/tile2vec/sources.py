"""Sources of triplets of segments: slices of mined recordings, drawn while training, or extracted cuts.

Slices after https://github.com/dsgt-birdclef/birdclef-2022 (its iterable loader): a recording is cut into slices of the
length of a window of its matrix profile. The neighbor of a slice is the slice that the neighbors of its windows point
to most often. The distant segment is another row of the batch, its anchor or its neighbor; here it is of another
recording where the batch has one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.audio.files import AudioError
from birdnet_fs.audio.read import duration_s
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.motifs.extract_triplets import cut_file, found_cuts, read_facts
from birdnet_fs.motifs.profile_table import ProfileRow
from birdnet_fs.motifs.tile2vec.audio_cache import AudioCache
from birdnet_fs.motifs.triplets import read_triplets

Floats = NDArray[np.float32]


class Segments(NamedTuple):
    """Segments of the rows of a batch, each float32 [n, n_samples] in ±1, and int64 [n], the recording of each row."""

    anchor: Floats
    neighbor: Floats
    distant: Floats
    recordings: NDArray[np.int64]


class TripletSource(Protocol):
    """Rows from which triplets of segments are made.

    Attributes:
        recordings: int64 [n_rows], number of the recording of the anchor of each row.
        held_out_with: int64 [n_rows], number of the recording of the neighbor of each row.
        ledger: The status of every recording or cut.
        identity: Text that changes when the rows do.
    """

    recordings: NDArray[np.int64]
    held_out_with: NDArray[np.int64]
    ledger: Ledger
    identity: str

    @property
    def files(self) -> Sequence[Path]:
        """The recordings, where they are known; () for cuts."""
        ...

    def segments(self, rows: NDArray[np.int64], rng: np.random.Generator, shift_s: float) -> Segments:
        """Make the triplets of some rows.

        Args:
            rows: [n], numbers of rows, two or more.
            rng: Generator of the shifts and of the distant segments.
            shift_s: Largest time shift of a segment in either direction, seconds.

        Returns:
            Segments of the rows that can be read; there may be none.
        """
        ...


class Slices:
    """Slices of mined recordings.

    Args:
        table: Mined recordings with their profiles. Those that are missing, cannot be read or have no neighbor are
            quarantined in the ledger.
        recordings: Folder of the recordings.
        sample_rate_hz: Rate of the segments.
        n_samples: Length of a segment; it has the center of its slice.
        identity: Text that identifies the table.

    Attributes:
        recordings: int64 [n_rows], number of the recording of each row.
        held_out_with: int64 [n_rows], the same numbers, since both slices are of one recording.
        ledger: Status of every recording.
        identity: Text that changes when the rows do.
        files: The recordings.

    Raises:
        UserError: No recording has two slices that are neighbors.
    """

    def __init__(
        self, table: Sequence[ProfileRow], recordings: Path, sample_rate_hz: int, n_samples: int, identity: str
    ) -> None:
        self.ledger, self.identity = Ledger(), identity
        self._cache, self._n_samples = AudioCache(sample_rate_hz), n_samples
        self.files: list[Path] = []
        self._lengths: list[float] = []
        numbers: list[int] = []
        places: list[tuple[float, float]] = []
        for row in table:
            path = recordings / row.source_name
            pairs = neighbor_slices(row.neighbors, row.window)
            try:
                length = duration_s(path)
                reason = "" if len(pairs) else "no window has a neighbor"
            except AudioError as error:
                length, reason = 0.0, error.reason
            self.ledger.add(path, "quarantined" if reason else "ok", reason, duration_s=length)
            if not reason:
                numbers += [len(self.files)] * len(pairs)
                places += [((a + 0.5) * row.window_s, (b + 0.5) * row.window_s) for a, b in pairs.tolist()]
                self.files.append(path)
                self._lengths.append(length)
        if not places:
            first = next((row for row in self.ledger.rows if row.reason), None)
            raise UserError(
                f"No slice of {escaped(recordings)} has a neighbor; give the folder that was mined"
                + (f" (the first: {escaped(first.path)}, {escaped(first.reason)})" if first else "")
                + "."
            )
        self.recordings = self.held_out_with = np.array(numbers, np.int64)
        self._centers = np.array(places)

    def segments(self, rows: NDArray[np.int64], rng: np.random.Generator, shift_s: float) -> Segments:
        """Make the triplets of some rows.

        Args:
            rows: [n], numbers of rows, two or more.
            rng: Generator of the shifts and of the distant segments.
            shift_s: Largest time shift of a segment in either direction, seconds.

        Returns:
            Segments of the rows that can be read; there may be none.
        """
        shifts = rng.uniform(-shift_s, shift_s, (len(rows), 2))
        pairs, read = [], []
        for i, row in enumerate(rows.tolist()):
            try:
                pairs.append([self._segment(row, side, shifts[i, side]) for side in (0, 1)])
                read.append(row)
            except AudioError as error:
                self.ledger.quarantine(self.files[self.recordings[row]], error.reason)
        if len(read) < 2:
            empty = np.zeros((0, self._n_samples), np.float32)
            return Segments(empty, empty, empty, np.zeros(0, np.int64))
        both = np.array(pairs)
        other = distant_rows(self.recordings[read], rng)
        drawn = both[other, rng.integers(2, size=len(read))]
        return Segments(both[:, 0], both[:, 1], drawn, self.recordings[read])

    def _segment(self, row: int, side: int, shift_s: float) -> Floats:
        number = int(self.recordings[row])
        center_s = float(self._centers[row, side]) + shift_s
        return self._cache.segment(self.files[number], center_s, self._n_samples, self._lengths[number])


class Cuts:
    """Triplets whose audio was extracted.

    Args:
        table: The table of triplets.
        folder: Folder of the cuts, which `extract_triplets` wrote for this table.
        sample_rate_hz: Rate of the segments.
        n_samples: Length of a segment.

    Attributes:
        recordings: int64 [n_rows], number of the recording of the anchor of each row.
        held_out_with: int64 [n_rows], number of the recording of the neighbor of each row.
        ledger: Status of every cut.
        identity: Text that changes when the rows do.
        files: (), the recordings are not known.

    Raises:
        UserError: The folder holds cuts of another table or rate, shorter than a segment, or none.
    """

    def __init__(self, table: Path, folder: Path, sample_rate_hz: int, n_samples: int) -> None:
        triplets, facts = read_triplets(table), read_facts(folder)
        self.identity = sha256(table)
        if (facts.get("triplets_sha256"), facts.get("sample_rate_hz")) != (self.identity, sample_rate_hz):
            raise UserError(
                f"{escaped(folder)} must hold cuts of {escaped(table)} at {sample_rate_hz} Hz; extract its triplets "
                "into another folder (motifs extract-triplets)."
            )
        self._numbers = found_cuts(folder, range(len(triplets)))
        self._folder, self._n_samples, self._rate = folder, n_samples, sample_rate_hz
        if not self._numbers or float(facts.get("cut_s", 0.0)) * sample_rate_hz < n_samples:
            raise UserError(f"{escaped(folder)} must hold cuts of {n_samples / sample_rate_hz:g} s or more.")
        self.ledger = Ledger()
        self.files: tuple[Path, ...] = ()
        present = set(self._numbers)
        for number in range(len(triplets)):
            reason = "" if number in present else "no cut was extracted"
            self.ledger.add(cut_file(folder, number), "quarantined" if reason else "ok", reason)
        chosen = [triplets[number] for number in self._numbers]
        names = {name: i for i, name in enumerate(sorted({name for row in chosen for name in (row.a, row.b)}))}
        self.recordings = np.array([names[row.a] for row in chosen], np.int64)
        self.held_out_with = np.array([names[row.b] for row in chosen], np.int64)

    def segments(self, rows: NDArray[np.int64], rng: np.random.Generator, shift_s: float) -> Segments:
        """Make the triplets of some rows.

        Args:
            rows: [n], numbers of rows, two or more.
            rng: Generator of the shifts and of the distant segments.
            shift_s: Largest time shift of a segment in either direction, seconds.

        Returns:
            Segments of the rows that can be read; there may be none.
        """
        shifts = rng.uniform(-shift_s, shift_s, (len(rows), 3))
        found, read = [], []
        for i, row in enumerate(rows.tolist()):
            file = cut_file(self._folder, self._numbers[row])
            try:
                cuts = np.load(file, allow_pickle=False)
                if cuts.ndim != 2 or len(cuts) != 3 or cuts.dtype != np.int16 or cuts.shape[1] < self._n_samples:
                    raise ValueError(f"it must be int16 [3, {self._n_samples} or more]")
            except (OSError, ValueError, EOFError) as error:
                self.ledger.quarantine(file, f"the cut cannot be read ({error})")
                continue
            spare = cuts.shape[1] - self._n_samples
            starts = np.clip(np.rint(spare / 2 + shifts[i] * self._rate), 0, spare).astype(int)
            read.append(row)
            found.append([cut[start : start + self._n_samples] for cut, start in zip(cuts, starts, strict=True)])
        every = np.array(found, np.float32).reshape(len(found), 3, self._n_samples) / np.float32(32_768.0)
        return Segments(every[:, 0], every[:, 1], every[:, 2], self.recordings[read])


def neighbor_slices(neighbors: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Slices of a recording and their neighbors: the mode of the slices of the neighbors of their windows.

    Args:
        neighbors: int64 [n_windows], first frame of the neighbor of each window; -1 for none.
        window: Frames of a window, and of a slice.

    Returns:
        int64 [n_slices, 2], numbers of slices; those without any neighbor are left out. Of equally frequent neighbors
        the first is chosen.

    >>> neighbor_slices(np.array([4, 5, 0, 9, 1, 1, -1, -1]), 2).tolist()
    [[0, 2], [1, 0], [2, 0]]
    """
    found = []
    for start in range(0, len(neighbors), window):
        block = neighbors[start : start + window]
        block = block[block >= 0] // window
        if len(block):
            found.append((start // window, int(np.bincount(block).argmax())))
    return np.array(found, np.int64).reshape(-1, 2)


def distant_rows(recordings: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each row of a batch another row, of another recording where there is one.

    Args:
        recordings: int64 [n], recording of each row, two or more rows.
        rng: Generator of the draws.

    Returns:
        int64 [n], numbers of rows of the batch, none its own.
    """
    n = len(recordings)
    chosen = np.empty(n, np.int64)
    for row in range(n):
        others = np.flatnonzero(recordings != recordings[row])
        if not len(others):
            others = np.delete(np.arange(n), row)
        chosen[row] = others[rng.integers(len(others))]
    return chosen
