"""Unlabeled recordings as training clips: the windows of `pseudo_labels.table`, with probabilities as labels.

Sources: Xie et al. 2020, "Self-training with Noisy Student improves ImageNet classification",
https://arxiv.org/abs/1911.04252 (soft labels, a student that hears noise which the teacher did not, several rounds);
for birds Lasseck 2024, "Improving Bird Recognition using Pseudo-Labeled Recordings from the Target Location",
https://ceur-ws.org/Vol-3740/paper-199.pdf; Sydorskyi and Goncalves 2025, second in BirdCLEF+ 2025,
https://ceur-ws.org/Vol-4038/paper_256.pdf; and what the winner of 2025 (Babych) told of his: soundscapes mixed into
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
from birdnet_fs.data.copies import match_recordings, with_fingerprints
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import Partition
from birdnet_fs.data.pseudo_label_table import find_pseudo_label_table
from birdnet_fs.data.score_table import read_probabilities


@dataclass(frozen=True)
class PseudoLabeledClips:
    """Windows of unlabeled recordings.

    Attributes:
        clips: Where they are; no labels.
        targets: float32 [n, n_classes], the probabilities as they are trained on.
        weights: float64 [n], how often each is drawn, above 0.
    """

    clips: tuple[Clip, ...]
    targets: NDArray[np.float32]
    weights: NDArray[np.float64]

    def readable(self, labeled: Sequence[Clip], read: Sequence[Clip]) -> "PseudoLabeledClips":
        """Those that could be read.

        Args:
            labeled: The clips that stood before these.
            read: What is left of both in the same order, these last.
        """
        places, rows, i = [_place(clip) for clip in (*labeled, *self.clips)], list[int](), 0
        for clip in read:
            i = places.index(_place(clip), i)
            rows.append(i - len(labeled))
            i += 1
        rows = [row for row in rows if row >= 0]
        return PseudoLabeledClips(tuple(self.clips[row] for row in rows), self.targets[rows], self.weights[rows])

    def drawn_as(self, settings: schema.PseudoLabels, n_labeled: int) -> PseudoLabelSampling:
        """How batches take them, behind `n_labeled` clips."""
        return PseudoLabelSampling(n_labeled, self.weights / self.weights.sum(), settings.amount, settings.mix)


def read_pseudo_labels(experiment: schema.Experiment, parts: Partition) -> PseudoLabeledClips | None:
    """The windows to train on; None when `pseudo_labels.table` is not set.

    Recordings that are validated on or held out here, or copies of them, are left out with a word.

    Raises:
        UserError: No such table, or a damaged one, of other classes, or nothing is left of it.
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
        say(f"{len(away)} recordings of {table} are held out here and were left out (the first: {min(away)}).")
    sure = found.values.max(axis=1, initial=0) >= max(settings.threshold, settings.floor)
    rows = [i for i, path in enumerate(paths) if sure[i] and path not in away]
    if not rows:
        raise UserError(
            f"None of the {len(paths)} windows of {table} can be trained on: {int((~sure).sum())} lie below "
            f"pseudo_labels.threshold={settings.threshold:g} or floor, {len(away)} recordings are held out."
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
    """Targets and weights of windows.

    Args:
        probabilities: [n, n_classes]; each row has one at `settings.floor` or above.
        settings: Its `floor`, `power` and `weight`.
        multi_label: Any number of classes, else the targets of a row sum to 1.

    Returns:
        Targets float32 [n, n_classes], and float64 [n], above 0.

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
