"""The support of an enrolled run: the clips of its classes, and one embedding for each.

It is stored in the run folder (`support.safetensors`, `support.csv`), so that classes can be added, extended and
removed without reading the earlier clips again.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.text import mark_formula, unmark_formula
from birdnet_fs.data.copies import recording_key, with_fingerprints
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import PARTITION, TRAIN, read_partition
from birdnet_fs.runs.run import Run

SUPPORT, SUPPORT_TABLE = "support.safetensors", "support.csv"
COLUMNS = ("label", "path", "onset_s", "offset_s")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Support:
    """Clips with one label each, and their embeddings.

    Attributes:
        clips: The clips.
        embeddings: float32 [n_clips, width].
    """

    clips: tuple[Clip, ...]
    embeddings: Floats

    @property
    def labels(self) -> tuple[str, ...]:
        """The class of each clip."""
        return tuple(clip.labels[0] for clip in self.clips)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, sorted."""
        return tuple(sorted(set(self.labels)))

    def without(self, classes: Sequence[str]) -> "Support":
        """Return the clips of the other classes."""
        rows = [i for i, label in enumerate(self.labels) if label not in classes]
        return Support(tuple(self.clips[i] for i in rows), self.embeddings[rows])

    def __add__(self, other: "Support") -> "Support":
        return Support(self.clips + other.clips, np.concatenate([self.embeddings, other.embeddings]))


def excerpt_key(clip: Clip) -> tuple[str, float, float | None]:
    """Return a key that two clips share when they are the same excerpt of the same recording, under any file name."""
    return recording_key(clip), clip.onset_s, clip.offset_s


def read_support(run: Run, width: int) -> Support:
    """Read the support that a run was enrolled with.

    The fingerprints of the clips are those in the run's `partition.csv`, or those of the files that still exist.

    Args:
        run: The run.
        width: Width of its embeddings.

    Returns:
        The support; empty for a run that was not enrolled.

    Raises:
        UserError: The files are damaged, or do not match each other or the network.
    """
    if not (run.path / SUPPORT).is_file():
        return Support((), np.empty((0, width), np.float32))
    try:
        embeddings = load_file(run.path / SUPPORT)["embeddings"]
        with open(run.path / SUPPORT_TABLE, encoding="utf-8", errors="surrogateescape", newline="") as file:
            clips = tuple(_clip(row) for row in csv.DictReader(file))
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(f"The support in {run.path} is damaged ({error}); enroll the classes again.") from None
    if embeddings.shape != (len(clips), width):
        raise UserError(
            f"{run.path / SUPPORT} must hold {len(clips)} embeddings of width {width}, those of its network. "
            f"Received: {list(embeddings.shape)}; enroll the classes again."
        )
    table = run.path / PARTITION
    stored = {c.path: c.fingerprint for c in read_partition(table, TRAIN)} if table.is_file() else {}
    return Support(with_fingerprints(replace(c, fingerprint=stored.get(c.path, "")) for c in clips), embeddings)


def _clip(row: dict[str, str]) -> Clip:
    end = float(row["offset_s"]) if row["offset_s"] else None
    return Clip(Path(unmark_formula(row["path"])), float(row["onset_s"]), end, (unmark_formula(row["label"]),))


def write_support(folder: Path, support: Support) -> None:
    """Write the two files that `read_support` reads."""
    with atomic_path(folder / SUPPORT) as part:
        part.write_bytes(save({"embeddings": np.ascontiguousarray(support.embeddings, np.float32)}))
    with (
        atomic_path(folder / SUPPORT_TABLE) as part,
        open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        for clip in support.clips:
            end = "" if clip.offset_s is None else repr(clip.offset_s)
            writer.writerow(map(mark_formula, (clip.labels[0], clip.path, repr(clip.onset_s), end)))
