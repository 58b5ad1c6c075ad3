"""A page of augmented training clips: spectrograms before and after, and the parameters drawn for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.batches.augment.item_random import ItemKey
from birdnet_fs.batches.augment.pipeline import AugmentationPipeline, Item
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import show
from birdnet_fs.core.text import escaped
from birdnet_fs.data.copies import match_recordings
from birdnet_fs.data.manifest import Clip, read_background
from birdnet_fs.data.partition import Partition, partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.frontend.in_numpy import log_mel
from birdnet_fs.reports.pages.render import render
from birdnet_fs.reports.pages.spectrograms import spectrogram_png
from birdnet_fs.runs.resolve import resolved

TEMPLATE = "augment.html"
N_PARTNERS, N_NOISES = (
    24,
    12,
)  # other clips and background recordings that are read; few, so that the page is ready soon


def report_on_augmentation(
    experiment: schema.Experiment, path: Path | str, *, n_clips: int = 6, n_draws: int = 4
) -> None:
    """Write a page of augmented training clips of an experiment.

    Args:
        experiment: Experiment whose training clips are shown, augmented as in its training.
        path: The HTML file; replaced whole.
        n_clips: Number of clips, spread over the classes; 1 or more. Default: 6.
        n_draws: Augmented versions of each clip; 1 or more. Default: 4.

    Raises:
        UserError: There are no clips to train on, none can be read, or a number is below 1.
    """
    if min(n_clips, n_draws) < 1:
        raise UserError(f"Clips and draws to show must be 1 or more. Received: {n_clips} and {n_draws}")
    experiment = resolved(experiment)
    parts = partition(experiment)
    if not parts.train:
        raise UserError(f"{experiment.name} has no clips to train on; look at data.root, data.where and data.fold.")
    chosen = _chosen(parts.train, n_clips)
    waveforms = Waveforms([parts.train[i] for i in chosen], experiment.frontend.sample_rate_hz)
    data = experiment.data
    targets = clip_targets(waveforms.clips, parts.classes, multi_label=data.multi_label, data=data)
    noises = _noises(experiment, parts)
    chain = AugmentationPipeline(waveforms, targets, experiment, noises)
    shown = range(min(n_clips, len(waveforms)))
    clips = [
        {
            "label": escaped(";".join(waveforms.clips[i].labels) or "no label"),
            "name": escaped(waveforms.clips[i].path.name),
            "draws": [
                _draw(chain.item(ItemKey(epoch, i, i, 0)), experiment.frontend, parts.classes)
                for epoch in range(n_draws)
            ],
        }
        for i in shown
    ]
    notes = [
        f"{row.path} could not be read: {row.reason}" for row in waveforms.ledger.rows if row.status == "quarantined"
    ]
    if experiment.augmentation.mixes and len(waveforms) < len(parts.train):
        notes.append(
            f"On this page the segments mixed in come from {len(waveforms)} clips; in training they come from all."
        )
    if len(noises):
        notes.append(
            f"On this page noise comes from {len(noises)} background recordings at most; in training from all."
        )
    off = set(show(schema.Augmentation()).split("\n"))
    render(
        path,
        TEMPLATE,
        title=f"{experiment.name}: augmentation",
        experiment=experiment,
        versions=None,
        notes=[escaped(note) for note in notes],
        n_train=len(parts.train),
        n_draws=n_draws,
        clips=clips,
        chosen=[line.partition("=")[::2] for line in show(experiment.augmentation).split("\n") if line not in off],
    )


def _chosen(clips: Sequence[Clip], n_clips: int) -> list[int]:
    """Indices of the clips to read: those shown first, alternating between classes, then clips to mix in."""
    turn: dict[str, int] = {}
    order = []
    for i, clip in enumerate(clips):
        label = ";".join(clip.labels)
        order.append((turn.setdefault(label, 0), label, i))
        turn[label] += 1
    return [i for _, _, i in sorted(order)[: n_clips + N_PARTNERS]]


def _noises(experiment: schema.Experiment, parts: Partition) -> Waveforms | tuple[()]:
    """Some of the background recordings that training uses."""
    if not experiment.augmentation.uses_background:
        return ()
    clips = read_background(experiment.data).clips
    away = match_recordings(clips, (*parts.val, *parts.held_out))
    found = [clip for clip, same in zip(clips, away, strict=True) if not same]
    every = -(-len(found) // N_NOISES) or 1
    return Waveforms(found[::every], experiment.frontend.sample_rate_hz) if found else ()


def _draw(item: Item, spec: schema.FrontEnd, classes: Sequence[str]) -> dict[str, Any]:
    cut = np.pad(item.crop, (0, max(0, spec.min_samples - len(item.crop))))
    before = log_mel(cut, spec)[0]
    low, high = min(before.min(), item.features.min()), max(before.max(), item.features.max())
    shares = [(share, classes[c]) for c, share in enumerate(item.targets.tolist()) if share > 0]
    return {
        "before": spectrogram_png(before, low, high),
        "after": spectrogram_png(item.features, low, high),
        "words": [escaped(words) for words in item.changes],
        "targets": escaped(", ".join(f"{name} {share:.2f}" for share, name in sorted(shares, reverse=True))),
    }
