"""Which clips train, which validate, which are held out: decided by the settings alone, so that a run folder
is enough to find its held-out clips again. Groups (recordings, sites, individuals) are never divided.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdnet_fs import schema
from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.recordings import splits
from birdnet_fs.recordings.manifest import Clip, Manifest, read_manifest
from birdnet_fs.recordings.segments import cut


@dataclass(frozen=True)
class Partition:
    """Clips by their part in one training run."""

    manifest: Manifest
    train: tuple[Clip, ...]
    val: tuple[Clip, ...]
    held_out: tuple[Clip, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in model order."""
        return self.manifest.classes


def partition(experiment: schema.Experiment) -> Partition:
    """Read the manifest and divide it.

    Folds come from the manifest's fold column when every clip has one, else a `split` column with "test" rows
    decides, else they are drawn (stratified on the primary label, grouped). `data.fold=-1` trains on everything.

    Raises:
        UserError: No clip is left to train on, or a fold holds nothing.
    """
    data = experiment.data
    manifest = read_manifest(data)
    clips = list(clips_of(manifest, experiment))
    if data.limit and len(clips) > data.limit:
        keep = np.random.default_rng(experiment.seed).permutation(len(clips))[: data.limit]
        clips = [clips[i] for i in sorted(keep)]
    held = _held_out(clips, data, experiment.seed)
    train = [clip for clip, out in zip(clips, held, strict=True) if not out]
    held_out = [clip for clip, out in zip(clips, held, strict=True) if out]
    val: list[Clip] = []
    if data.val_fraction:
        labels, groups = [_primary(clip) for clip in train], [clip.group for clip in train]
        parts = splits.split_by_groups(labels, groups, (1 - data.val_fraction, data.val_fraction), experiment.seed)
        val = [clip for clip, part in zip(train, parts, strict=True) if part == 1]
        train = [clip for clip, part in zip(train, parts, strict=True) if part == 0]
    if not train:
        raise UserError(
            f"No clip is left to train on: {len(clips)} clips, {len(held_out)} held out in fold {data.fold}."
        )
    return Partition(manifest, tuple(train), tuple(val), tuple(held_out))


def clips_of(manifest: Manifest, experiment: schema.Experiment) -> tuple[Clip, ...]:
    """What one training item is: a labelled clip, or where events have times, every window of the recording."""
    if not manifest.events:
        return manifest.clips
    spec = experiment.frontend
    windows = cut(
        manifest,
        segment_s=spec.segment_s,
        segment_hop_s=experiment.data.segment_hop_s or spec.segment_s,
        min_overlap_s=experiment.data.min_overlap_s,
    )
    return tuple(
        dataclasses.replace(
            manifest.clips[w.clip_index],
            onset_s=w.onset_s,
            offset_s=w.onset_s + w.duration_s,
            labels=w.labels,
            secondary=(),
        )
        for w in windows
    )


def _held_out(clips: Sequence[Clip], data: schema.Data, seed: int) -> list[bool]:
    if data.fold < 0:
        return [False] * len(clips)
    folds = [clip.fold for clip in clips if clip.fold is not None]
    if len(folds) == len(clips):
        if data.fold not in folds:
            raise UserError(f"data.fold must be one of the table's {sorted(set(folds))}. Received: {data.fold}")
        return [fold == data.fold for fold in folds]
    if any(clip.split == "test" for clip in clips):
        return [clip.split == "test" for clip in clips]
    drawn = splits.assign_folds([_primary(c) for c in clips], [c.group for c in clips], data.n_folds, seed)
    return [fold == data.fold for fold in drawn]


def _primary(clip: Clip) -> str:
    return clip.labels[0] if clip.labels else ""
