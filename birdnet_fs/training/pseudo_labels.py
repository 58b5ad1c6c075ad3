"""Pseudo-labels: windows of unlabeled recordings as training clips, with probabilities as labels.

Xie et al. 2020, "Self-training with Noisy Student improves ImageNet classification", https://arxiv.org/abs/1911.04252
(soft labels; noise in the input of the student but not of the teacher; several rounds). For birds: Lasseck 2024,
"Improving Bird Recognition using Pseudo-Labeled Recordings from the Target Location",
https://ceur-ws.org/Vol-3740/paper-199.pdf; Sydorskyi and Goncalves 2025, second place in BirdCLEF+ 2025,
https://ceur-ws.org/Vol-4038/paper_256.pdf; and the description of the winner of 2025 (Babych): soundscapes mixed into
labeled clips, a power of the probabilities against the noise of earlier rounds, confident recordings drawn more often.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.batches.augment.pseudo_label_sampling import PseudoLabelSampling
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import count
from birdnet_fs.data.copies import match_recordings, with_fingerprints
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import Partition
from birdnet_fs.data.pseudo_label_table import find_pseudo_label_table
from birdnet_fs.data.score_table import read_probabilities


@dataclass(frozen=True)
class PseudoLabeledClips:
    """Windows of unlabeled recordings.

    Attributes:
        clips: The windows, without labels.
        targets: float32 [n_windows, n_classes], 0..1.
        weights: float64 [n_windows], above 0, proportional to how often each window is drawn.
    """

    clips: tuple[Clip, ...]
    targets: NDArray[np.float32]
    weights: NDArray[np.float64]

    def readable(self, labeled: Sequence[Clip], read: Sequence[Clip]) -> "PseudoLabeledClips":
        """Select the windows that could be read.

        Args:
            labeled: The labeled clips, which were read before these.
            read: The clips of both that could be read, in the same order.

        Returns:
            The windows among `read`.
        """
        places, rows, i = [_place(clip) for clip in (*labeled, *self.clips)], list[int](), 0
        for clip in read:
            i = places.index(_place(clip), i)
            rows.append(i - len(labeled))
            i += 1
        rows = [row for row in rows if row >= 0]
        return PseudoLabeledClips(tuple(self.clips[row] for row in rows), self.targets[rows], self.weights[rows])

    def drawn_as(self, settings: schema.PseudoLabels, n_labeled: int) -> PseudoLabelSampling:
        """Describe how batches draw the windows, which follow `n_labeled` labeled clips."""
        return PseudoLabelSampling(n_labeled, self.weights / self.weights.sum(), settings.amount, settings.mix)


def read_pseudo_labels(experiment: schema.Experiment, parts: Partition) -> PseudoLabeledClips | None:
    """Read the windows of `pseudo_labels.table`.

    Recordings that are validated on or held out, and copies of them, are left out and reported.

    Args:
        experiment: The resolved settings.
        parts: The divided clips.

    Returns:
        The windows to train on; None when `pseudo_labels.table` is not set.

    Raises:
        UserError: No window of the table can be used.
    """
    settings, data = experiment.pseudo_labels, experiment.data
    table = find_pseudo_label_table(experiment)
    if table is None:
        return None
    found = read_probabilities(table, parts.classes, multi_label=data.multi_label)
    paths = [Path(os.path.abspath(table.parent / name)) for name in found.paths]
    recordings = with_fingerprints(Clip(path, group=str(path)) for path in dict.fromkeys(paths))
    known = match_recordings(recordings, (*parts.val, *parts.held_out))
    away = {clip.path for clip, same in zip(recordings, known, strict=True) if same}
    if away:
        are = "is held out and was" if len(away) == 1 else "are held out and were"
        say(f"{count(len(away), 'recording')} of {table} {are} not used (the first: {min(away)}).")
    sure = found.values.max(axis=1, initial=0) >= max(settings.threshold, settings.floor)
    rows = [i for i, path in enumerate(paths) if sure[i] and path not in away]
    if not rows:
        raise UserError(
            f"None of the {len(paths)} windows of {table} can be trained on: {int((~sure).sum())} are below "
            f"pseudo_labels.threshold={settings.threshold:g} or floor={settings.floor:g}, {len(away)} recordings are "
            "held out. Lower the threshold, or label other recordings."
        )
    targets, weights = soft_targets(found.values[rows], settings, multi_label=data.multi_label)
    whole = {clip.path: clip for clip in recordings}
    starts, ends = found.onsets_s, found.onsets_s + found.durations_s
    clips = [replace(whole[paths[i]], onset_s=float(starts[i]), offset_s=float(ends[i])) for i in rows]
    say(f"{len(clips)} windows of {len({clip.path for clip in clips})} unlabeled recordings are trained on as well.")
    return PseudoLabeledClips(tuple(clips), targets, weights)


def soft_targets(
    probabilities: NDArray[np.float32], settings: schema.PseudoLabels, *, multi_label: bool
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Compute targets and sampling weights of windows from their probabilities.

    Args:
        probabilities: float32 [n_windows, n_classes], 0..1; each row has a value of `settings.floor` or more.
        settings: Uses `floor`, `power` and `weight`.
        multi_label: Any number of classes per window, else the targets of a row are scaled to the sum 1.

    Returns:
        Targets float32 [n_windows, n_classes], and weights float64 [n_windows], above 0.

    >>> p = np.array([[0.9, 0.1]], np.float32)
    >>> soft_targets(p, schema.PseudoLabels(power=2.0), multi_label=True)[0].round(2).tolist()
    [[0.8100000023841858, 0.009999999776482582]]
    """
    raised = np.where(probabilities >= settings.floor, probabilities.astype(np.float64), 0) ** settings.power
    tiny = np.finfo(np.float64).tiny
    if settings.weight == "none":
        weights = np.ones(len(raised))
    else:
        weights = np.maximum(getattr(raised, settings.weight)(axis=1), tiny)
    if not multi_label:
        raised = raised / np.maximum(raised.sum(axis=1, keepdims=True), tiny)
    return raised.astype(np.float32), weights


def _place(clip: Clip) -> tuple[Path, float, float | None, tuple[str, ...]]:
    return clip.path, clip.onset_s, clip.offset_s, clip.labels
