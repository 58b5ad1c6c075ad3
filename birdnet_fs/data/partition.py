"""The training, validation and held-out clips of a run.

Groups (recordings, sites, individuals) are never divided; with `data.split=classes` (few-shot training) classes are
not divided either. A run stores its partition in `partition.csv`, so that it is evaluated on the clips that it was not
trained on even when recordings were added to the data later.
"""

import csv
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdnet_fs import schema
from birdnet_fs.core.csv_files import csv_writer
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path
from birdnet_fs.core.progress import say_once
from birdnet_fs.core.random_streams import Stream, generator
from birdnet_fs.core.text import mark_formula, unmark_formula
from birdnet_fs.data import copies, splits
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.data.segments import cut_segments
from birdnet_fs.data.targets import labeled_background

PARTITION = "partition.csv"
TRAIN, VAL, HELD_OUT = "train", "val", "held_out"
PSEUDO_LABELS = "pseudo"  # part in partition.csv: training windows with pseudo-labels
INHERITED = "inherited"  # part in partition.csv: recordings that base runs and labeling runs were trained on
SPLIT_NAMES = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": HELD_OUT}
SPLIT_NAMES |= {"base": TRAIN, "novel": HELD_OUT}  # names in few-shot data sets
FINGERPRINT = "fingerprint"  # column with the fingerprint of the clip's recording (copies.py); empty = unknown
UNKNOWN = "unknown"  # column of classes that may be present or absent; older files do not have it
COLUMNS = ("part", "path", "onset_s", "offset_s", "group", "labels", "secondary", UNKNOWN, FINGERPRINT)


@dataclass(frozen=True)
class Partition:
    """Clips of one training run by part."""

    manifest: Manifest
    train: tuple[Clip, ...]
    val: tuple[Clip, ...]
    held_out: tuple[Clip, ...]
    pseudo_labels: tuple[Clip, ...] = ()  # windows of unlabeled recordings
    inherited: tuple[Clip, ...] = ()  # one per recording that base runs and labeling runs were trained on

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in model order: those of the training clips if `classes_unseen_in_training`, else all."""
        return tuple(sorted(_labels(self.train))) if self.classes_unseen_in_training else self.manifest.classes

    @property
    def classes_unseen_in_training(self) -> bool:
        """Whether no class of the validation and held-out clips occurs in the training clips."""
        others = _labels((*self.val, *self.held_out))
        return bool(others) and not others & _labels(self.train)

    def leaks(self) -> splits.Leaks:
        """Find groups, and recordings stored under two names, that are in more than one part."""
        clips = (*self.train, *self.val, *self.held_out)
        sides = [0] * len(self.train) + [1] * len(self.val) + [2] * len(self.held_out)
        fingerprints = {clip.path: clip.fingerprint for clip in copies.with_fingerprints(clips)}
        return splits.leak_report(clips, sides, fingerprints=fingerprints)

    def with_fingerprints(self) -> "Partition":
        """Copy with the fingerprint of its recording in every clip; the start of every recording is read."""
        train, val, held_out, pseudo = map(
            copies.with_fingerprints, (self.train, self.val, self.held_out, self.pseudo_labels)
        )
        return dataclasses.replace(self, train=train, val=val, held_out=held_out, pseudo_labels=pseudo)


def partition(experiment: schema.Experiment) -> Partition:
    """Read the manifest and divide it by `data.split`; with `data.fold=-1` all clips are training clips.

    Args:
        experiment: Settings.

    Returns:
        The parts, without pseudo-labeled and inherited clips.

    Raises:
        UserError: No clip is left to train on, no clip can be used for validation although the settings need it, the
            table lacks a column or value that the split needs, or there is no fold `data.fold`.
    """
    data = experiment.data
    manifest = read_manifest(data)
    clips = _limited(clips_to_train_on(manifest, experiment), experiment)
    parts = _parts(clips, manifest, experiment)
    train, val, held_out = (
        tuple(clip for clip, part in zip(clips, parts, strict=True) if part == name) for name in (TRAIN, VAL, HELD_OUT)
    )
    val, held_out = _certain(val), _certain(held_out)
    if not train:
        raise UserError(
            f"No clip is left to train on: of {len(clips)} clips {len(held_out)} are held out and {len(val)} are for "
            f"validation. Change data.split (now {experiment.data.split}), or add clips."
        )
    if experiment.training.needs_validation and not val:
        raise UserError(
            f"{schema.NEED_VALIDATION} need validation clips, but there are too few groups for them. Received: "
            f"{len(clips)} clips with data.split={experiment.data.split}"
        )
    return _with_background(Partition(manifest, train, val, held_out), experiment)


def _with_background(parts: Partition, experiment: schema.Experiment) -> Partition:
    """The parts with background recordings among the training clips, where `labeled_background` makes them clips."""
    manifest = parts.manifest
    found = labeled_background(experiment, manifest.classes, (*parts.train, *parts.val, *parts.held_out))
    if found is None:
        return parts
    clips, background = found
    ledger, classes = Ledger(), {*manifest.classes, *_labels(clips)}
    ledger.rows = [*manifest.ledger.rows, *background.ledger.rows]
    manifest = dataclasses.replace(manifest, classes=tuple(sorted(classes)), ledger=ledger)
    return dataclasses.replace(parts, manifest=manifest, train=(*parts.train, *clips))


def fold_numbers(experiment: schema.Experiment) -> list[int]:
    """Numbers of the folds: those of the table, else 0..n-1 with as many folds as the classes can fill.

    Args:
        experiment: Settings.

    Returns:
        Fold numbers, sorted; at most `data.n_folds` where they are drawn.

    Raises:
        UserError: `data.split` is not "folds", only some rows of the table have a fold, or no class can be divided.
    """
    if experiment.data.split != "folds":
        raise UserError(f"Cross-validation needs data.split=folds. Received: {experiment.data.split!r}")
    experiment = schema.debugged(experiment)
    manifest = read_manifest(experiment.data)
    clips = _limited(clips_to_train_on(manifest, experiment), experiment)
    if own := _table_folds(clips):
        return sorted(set(own))
    n = splits.possible_folds(*_labels_and_groups(clips, manifest), experiment.data.n_folds)
    if n == 1:
        raise UserError(
            f"Cross-validation needs classes with two recordings (or groups) or more; none of the "
            f"{len(manifest.classes)} classes has them. `birdnet-fs train` trains on all clips."
        )
    return list(range(n))


def clips_to_train_on(manifest: Manifest, experiment: schema.Experiment) -> tuple[Clip, ...]:
    """Training items: labeled clips, or every window of the recordings where events have times."""
    if not manifest.events:
        return manifest.clips
    spec = experiment.frontend
    segment_s = experiment.data.segment_s or spec.segment_s
    windows = cut_segments(
        manifest,
        segment_s=segment_s,
        segment_hop_s=experiment.data.segment_hop_s or segment_s,
        min_overlap_s=experiment.data.min_overlap_s,
        sample_rate_hz=spec.sample_rate_hz,
    )
    first: dict[Path, Clip] = {}  # a recording is in one group and one fold: those of its first event
    for clip in manifest.clips:
        first.setdefault(clip.path, clip)
    return tuple(
        dataclasses.replace(
            first[w.path],
            onset_s=w.onset_s,
            offset_s=w.onset_s + w.duration_s,
            labels=w.labels,
            secondary=(),
            unknown=w.unknown,
        )
        for w in windows
        if w.labels or not set(manifest.classes) <= set(w.unknown)  # a window of which nothing is known
    )


def _certain(clips: tuple[Clip, ...]) -> tuple[Clip, ...]:
    """The clips without unknown classes, which cannot be scored."""
    if n := sum(bool(clip.unknown) for clip in clips):
        say_once(f"{n} of {len(clips)} windows for validation or test overlap unknown events (UNK) and are left out.")
    return tuple(clip for clip in clips if not clip.unknown)


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
    labels, groups = _labels_and_groups(clips, manifest)
    if data.split == "table":
        return _split_column(clips, data.split_column)
    if data.split == "classes":
        return _whole_classes(labels, experiment.seed)
    if data.split != "folds":
        fractions = (0.8, 0.0, 0.2) if data.split == "80/20" else (0.7, 0.15, 0.15)
        return _drawn(labels, groups, fractions, experiment.seed, Stream.SPLIT)
    folds = _table_folds(clips) or splits.assign_folds(labels, groups, data.n_folds, experiment.seed).tolist()
    none_held_out = set(folds) == {splits.PINNED}
    if data.fold not in folds and not none_held_out:
        raise UserError(
            f"data.fold must be one of the folds {sorted(set(folds) - {splits.PINNED})}. Received: {data.fold}"
        )
    parts = [HELD_OUT if fold == data.fold else TRAIN for fold in folds]
    if data.val_fraction:
        left = [i for i, part in enumerate(parts) if part == TRAIN]
        fractions = (1 - data.val_fraction, data.val_fraction, 0.0)
        own = [labels[i] for i in left], [groups[i] for i in left]
        drawn = _drawn(*own, fractions, experiment.seed, Stream.VALIDATION)
        for i, part in zip(left, drawn, strict=True):
            parts[i] = part
    return parts


def _labels_and_groups(clips: Sequence[Clip], manifest: Manifest) -> tuple[list[str], list[str]]:
    """The label by which each clip is stratified, and its group."""
    # windows of a recording have any mix of species: they are divided by recording, not stratified by a first label
    labels = ["" if manifest.events or not clip.labels else clip.labels[0] for clip in clips]
    return labels, [clip.recording_group for clip in clips]


def _drawn(
    labels: list[str], groups: list[str], fractions: tuple[float, float, float], seed: int, stream: Stream
) -> list[str]:
    names = [name for name, share in zip((TRAIN, VAL, HELD_OUT), fractions, strict=True) if share]
    shares = [share for share in fractions if share]
    return [names[part] for part in splits.split_by_groups(labels, groups, shares, seed, stream)]


def _whole_classes(labels: list[str], seed: int) -> list[str]:
    """Parts by class: 15 % of the classes for validation, 15 % held out, at least one each, the others for training."""
    names = sorted(set(labels))
    if len(names) < 3:
        raise UserError(f"data.split=classes needs three classes or more. Received: {len(names)} ({', '.join(names)})")
    n = max(1, round(0.15 * len(names)))
    drawn = generator(seed, Stream.CLASSES).permutation(len(names))
    part = {names[c]: VAL if i < n else HELD_OUT if i < 2 * n else TRAIN for i, c in enumerate(drawn)}
    return [part[label] for label in labels]


def _split_column(clips: Sequence[Clip], column: str) -> list[str]:
    odd = [clip for clip in clips if clip.split.lower() not in SPLIT_NAMES]
    if odd:
        raise UserError(
            f"data.split=table needs train, val or test (or base, val or novel) in the column {column!r} "
            f"(data.split_column) of every row; {len(odd)} of {len(clips)} rows have another value (the first: "
            f"{odd[0].path}, {odd[0].split!r})."
        )
    return [SPLIT_NAMES[clip.split.lower()] for clip in clips]


def _labels(clips: Sequence[Clip]) -> set[str]:
    return {label for clip in clips for label in clip.labels}


def _table_folds(clips: Sequence[Clip]) -> list[int]:
    """The fold of every clip as the table has it, or an empty list when no clip has one."""
    folds = [clip.fold for clip in clips if clip.fold is not None]
    if folds and len(folds) < len(clips):
        raise UserError(
            f"{len(clips) - len(folds)} of {len(clips)} rows have no fold; fill the column that data.fold_column "
            "names, or set data.fold_column= (nothing after the equals sign) to draw folds."
        )
    return folds


def write_partition(path: Path, parts: Partition) -> None:
    """Write `partition.csv`, atomically: one row per clip with its part and the fingerprint of its recording."""
    with atomic_path(path) as part, open(part, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv_writer(file)
        writer.writerow(COLUMNS)
        for name in (TRAIN, VAL, HELD_OUT, PSEUDO_LABELS, INHERITED):
            for clip in parts.pseudo_labels if name == PSEUDO_LABELS else getattr(parts, name):
                end = "" if clip.offset_s is None else repr(clip.offset_s)
                labels, secondary, unknown = map(";".join, (clip.labels, clip.secondary, clip.unknown))
                place = (str(clip.path), repr(clip.onset_s), end)
                cells = [name, *place, clip.group, labels, secondary, unknown, clip.fingerprint]
                writer.writerow(map(mark_formula, cells))


def read_partition(path: Path, *parts: str) -> tuple[Clip, ...]:
    """Read the clips of some parts of a `partition.csv`.

    Args:
        path: A `partition.csv`. Fingerprints are "" when it has no column `fingerprint` (older runs).
        *parts: One or more of train, val, held_out, pseudo, inherited.

    Returns:
        The clips, in the order of the file.

    Raises:
        UserError: The file does not exist or is damaged.
    """
    if not path.is_file():
        raise UserError(f"The partition of the run was expected in {path}, which does not exist; train the run again.")
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        try:
            return tuple(
                Clip(
                    path=Path(row["path"]),
                    onset_s=float(row["onset_s"]),
                    offset_s=float(row["offset_s"]) if row["offset_s"] else None,
                    labels=_names(row["labels"]),
                    secondary=_names(row["secondary"]),
                    group=unmark_formula(row["group"]),
                    fingerprint=row.get(FINGERPRINT) or "",
                    unknown=_names(row.get(UNKNOWN) or ""),
                )
                for row in csv.DictReader(file)
                if row["part"] in parts
            )
        except (KeyError, ValueError, TypeError, AttributeError, csv.Error) as error:
            raise UserError(f"{path} is damaged ({error!r}); train the run again.") from None


def _names(cell: str) -> tuple[str, ...]:
    return tuple(filter(None, unmark_formula(cell).split(";")))


def has_fingerprints(path: Path) -> bool:
    """Whether a `partition.csv` has the column of fingerprints; those of older runs do not."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return FINGERPRINT in next(csv.reader(file), ())
