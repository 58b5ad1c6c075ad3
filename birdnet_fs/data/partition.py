"""Which clips train, which validate, which are held out. Groups (recordings, sites, individuals) are never divided,
and for few-shot training classes are not either.

A run keeps the answer in `partition.csv`, so that it is evaluated on what it truly never heard, even when
recordings were added since.
"""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.data import copies, splits
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.data.segments import cut_segments

PARTITION = "partition.csv"
TRAIN, VAL, HELD_OUT = "train", "val", "held_out"
PSEUDO_LABELS = "pseudo"  # in partition.csv: windows that were trained on with a run's labels
INHERITED = "inherited"  # in partition.csv: recordings that the runs behind this one were trained on
SPLIT_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": HELD_OUT}
SPLIT_NAMES |= {"base": TRAIN, "novel": HELD_OUT}  # of few-shot data sets
FINGERPRINT = "fingerprint"  # of the clip's recording (copies.py); empty = unknown
COLUMNS = ("part", "path", "onset_s", "offset_s", "group", "labels", "secondary", FINGERPRINT)


@dataclass(frozen=True)
class Partition:
    """Clips by their part in one training run."""

    manifest: Manifest
    train: tuple[Clip, ...]
    val: tuple[Clip, ...]
    held_out: tuple[Clip, ...]
    pseudo_labels: tuple[Clip, ...] = ()  # windows of other recordings, labeled by runs
    inherited: tuple[Clip, ...] = ()  # one for each recording that runs behind this one were trained on

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in model order; those trained on where none of them is validated on or held out."""
        return tuple(sorted(_labels(self.train))) if self.classes_unseen_in_training else self.manifest.classes

    @property
    def classes_unseen_in_training(self) -> bool:
        """Whether all classes that are validated on or held out are ones that are not trained on."""
        others = _labels((*self.val, *self.held_out))
        return bool(others) and not others & _labels(self.train)

    def leaks(self) -> splits.Leaks:
        """What stands on more than one side: groups, or the same sound under two names."""
        clips = (*self.train, *self.val, *self.held_out)
        sides = [0] * len(self.train) + [1] * len(self.val) + [2] * len(self.held_out)
        marks = {clip.path: clip.fingerprint for clip in copies.with_fingerprints(clips)}
        return splits.leak_report(clips, sides, fingerprints=marks)

    def with_fingerprints(self) -> "Partition":
        """The same parts, each clip with the fingerprint of its recording; the front of every recording is read."""
        train, val, held_out, pseudo = map(
            copies.with_fingerprints, (self.train, self.val, self.held_out, self.pseudo_labels)
        )
        return dataclasses.replace(self, train=train, val=val, held_out=held_out, pseudo_labels=pseudo)


def partition(experiment: schema.Experiment) -> Partition:
    """Read the manifest and divide it as `data.split` says; `data.fold=-1` trains on everything.

    Raises:
        UserError: No clip is left to train on, the table lacks what the split needs, or a fold holds nothing.
    """
    data = experiment.data
    manifest = read_manifest(data)
    clips = _limited(clips_to_train_on(manifest, experiment), experiment)
    parts = _parts(clips, manifest, experiment)
    train, val, held_out = (
        tuple(clip for clip, part in zip(clips, parts, strict=True) if part == name) for name in (TRAIN, VAL, HELD_OUT)
    )
    if not train:
        raise UserError(f"No clip is left to train on: {len(clips)} clips, {len(held_out)} of them held out.")
    if experiment.training.needs_validation and not val:
        raise UserError(f"{schema.NEED_VALIDATION} need validation clips, and no group could be spared for them.")
    return Partition(manifest, train, val, held_out)


def fold_numbers(experiment: schema.Experiment) -> list[int]:
    """The numbers of the folds: the table's own, else 0..data.n_folds-1.

    Raises:
        UserError: `data.split` knows no folds, or only some rows of the table have one.
    """
    if experiment.data.split != "folds":
        raise UserError(f"Cross-validation needs data.split=folds. Received: {experiment.data.split!r}")
    manifest = read_manifest(experiment.data)
    own = _table_folds(clips_to_train_on(manifest, experiment))
    return sorted(set(own)) if own else list(range(experiment.data.n_folds))


def clips_to_train_on(manifest: Manifest, experiment: schema.Experiment) -> tuple[Clip, ...]:
    """What one training item is: a labeled clip, or where events have times, every window of the recording."""
    if not manifest.events:
        return manifest.clips
    spec = experiment.frontend
    windows = cut_segments(
        manifest,
        segment_s=spec.segment_s,
        segment_hop_s=experiment.data.segment_hop_s or spec.segment_s,
        min_overlap_s=experiment.data.min_overlap_s,
        sample_rate_hz=spec.sample_rate_hz,
    )
    first: dict[Path, Clip] = {}  # a recording is one group and in one fold, whatever its events say
    for clip in manifest.clips:
        first.setdefault(clip.path, clip)
    return tuple(
        dataclasses.replace(
            first[w.path], onset_s=w.onset_s, offset_s=w.onset_s + w.duration_s, labels=w.labels, secondary=()
        )
        for w in windows
    )


def _limited(clips: Sequence[Clip], experiment: schema.Experiment) -> list[Clip]:
    limit = experiment.data.limit
    if not limit or len(clips) <= limit:
        return list(clips)
    kept = generator(experiment.seed, Stream.LIMIT).permutation(len(clips))[:limit]
    return [clips[i] for i in sorted(kept)]


def _parts(clips: Sequence[Clip], manifest: Manifest, experiment: schema.Experiment) -> list[str]:
    data = experiment.data
    if data.fold < 0:
        return [TRAIN] * len(clips)
    # windows of a recording hold any mix of species: they are divided by recording, not by a first label
    labels = ["" if manifest.events or not clip.labels else clip.labels[0] for clip in clips]
    groups = [clip.recording_group for clip in clips]
    if data.split == "table":
        return _split_column(clips, data.split_column)
    if data.split == "classes":
        return _whole_classes(labels, experiment.seed)
    if data.split != "folds":
        fractions = (0.8, 0.0, 0.2) if data.split == "80/20" else (0.7, 0.15, 0.15)
        return _drawn(labels, groups, fractions, experiment.seed, Stream.SPLIT)
    folds = _table_folds(clips) or splits.assign_folds(labels, groups, data.n_folds, experiment.seed).tolist()
    if data.fold not in folds:
        raise UserError(f"data.fold must be one of the folds {sorted(set(folds))}. Received: {data.fold}")
    parts = [HELD_OUT if fold == data.fold else TRAIN for fold in folds]
    if data.val_fraction:
        left = [i for i, part in enumerate(parts) if part == TRAIN]
        fractions = (1 - data.val_fraction, data.val_fraction, 0.0)
        own = [labels[i] for i in left], [groups[i] for i in left]
        drawn = _drawn(*own, fractions, experiment.seed, Stream.VALIDATION)
        for i, part in zip(left, drawn, strict=True):
            parts[i] = part
    return parts


def _drawn(
    labels: list[str], groups: list[str], fractions: tuple[float, float, float], seed: int, stream: Stream
) -> list[str]:
    names = [name for name, share in zip((TRAIN, VAL, HELD_OUT), fractions, strict=True) if share]
    shares = [share for share in fractions if share]
    return [names[part] for part in splits.split_by_groups(labels, groups, shares, seed, stream)]


def _whole_classes(labels: list[str], seed: int) -> list[str]:
    """15 % of the classes validated on, 15 % held out, each one at least, the others trained on."""
    names = sorted(set(labels))
    if len(names) < 3:
        raise UserError(f"data.split=classes needs three classes or more. Received: {', '.join(names)}")
    n = max(1, round(0.15 * len(names)))
    drawn = generator(seed, Stream.CLASSES).permutation(len(names))
    part = {names[c]: VAL if i < n else HELD_OUT if i < 2 * n else TRAIN for i, c in enumerate(drawn)}
    return [part[label] for label in labels]


def _split_column(clips: Sequence[Clip], column: str) -> list[str]:
    odd = [clip for clip in clips if clip.split.lower() not in SPLIT_NAMES]
    if odd:
        raise UserError(
            f"data.split=table needs train, val or test (or base, val or novel) in the column {column!r} "
            f"(data.split_column) of every row; {len(odd)} of {len(clips)} have something else (the first: "
            f"{odd[0].path}, {odd[0].split!r})."
        )
    return [SPLIT_NAMES[clip.split.lower()] for clip in clips]


def _labels(clips: Sequence[Clip]) -> set[str]:
    return {label for clip in clips for label in clip.labels}


def _table_folds(clips: Sequence[Clip]) -> list[int]:
    """The folds of the table, or none when it has no such column."""
    folds = [clip.fold for clip in clips if clip.fold is not None]
    if folds and len(folds) < len(clips):
        raise UserError(
            f"{len(clips) - len(folds)} of {len(clips)} rows have no fold; fill data.fold_column, or draw folds with "
            "data.fold_column= (nothing behind the equals sign)."
        )
    return folds


def write_partition(path: Path, parts: Partition) -> None:
    """Write `partition.csv`: one row per clip with its part, and the fingerprint of its recording where it has one."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name in (TRAIN, VAL, HELD_OUT, PSEUDO_LABELS, INHERITED):
            for clip in getattr(parts, name):
                end = "" if clip.offset_s is None else repr(clip.offset_s)
                labels, secondary = ";".join(clip.labels), ";".join(clip.secondary)
                place = (str(clip.path), repr(clip.onset_s), end)
                writer.writerow([name, *place, clip.group, labels, secondary, clip.fingerprint])


def read_partition(path: Path, *parts: str) -> tuple[Clip, ...]:
    """The clips of some parts, as `write_partition` wrote them.

    Args:
        path: A `partition.csv`. Without the column `fingerprint`, as it was written before, that of a clip is "".
        *parts: One or more of train, val, held_out, pseudo, inherited.

    Returns:
        The clips, in the order of the file.

    Raises:
        UserError: There is no such file, or it is not as it was written.
    """
    if not path.is_file():
        raise UserError(f"The clips that the run held out were expected in {path}; it does not exist.")
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        try:
            return tuple(
                Clip(
                    path=Path(row["path"]),
                    onset_s=float(row["onset_s"]),
                    offset_s=float(row["offset_s"]) if row["offset_s"] else None,
                    labels=tuple(filter(None, row["labels"].split(";"))),
                    secondary=tuple(filter(None, row["secondary"].split(";"))),
                    group=row["group"],
                    fingerprint=row.get(FINGERPRINT) or "",
                )
                for row in csv.DictReader(file)
                if row["part"] in parts
            )
        except (KeyError, ValueError, AttributeError) as error:
            raise UserError(f"{path} is not as it was written ({error}); train the run again.") from None


def has_fingerprints(path: Path) -> bool:
    """Whether a `partition.csv` has the column of fingerprints; those written before have not."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return FINGERPRINT in next(csv.reader(file), ())
