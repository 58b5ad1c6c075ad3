"""Prior odds of classes by hour of the day or by site, from the clips that a run was trained on.

Sources: O. Mac Aodha, E. Cole, P. Perona 2019, "Presence-Only Geographical Priors for Fine-Grained Image
Classification", https://arxiv.org/abs/1906.05272 (the posterior of a classifier times a prior by place and time);
B. Efron, C. Morris 1975, "Data Analysis Using Stein's Estimator and its Generalizations",
https://doi.org/10.1080/01621459.1975.10479864 (rates of groups drawn towards the rate of all).

A weight is the ratio of the odds of a class in an hour or at a site to its odds in all clips: the network has learned
the latter, so that multiplying its odds with the ratio gives those of the hour or site (`class_weights.weigh`). Clips
of one recording count as one observation, since they say the same about its hour and site.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.combined.clock_time import recording_start
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import count, escaped
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.data.partition import PARTITION, TRAIN, read_partition
from birdnet_fs.data.targets import clip_targets
from birdnet_fs.runs.run import Run

STRENGTH = 5.0  # recordings: how many of an hour or site weigh as much as the rate of all
LEAST_RATE = 1e-3  # a rate of 0 or 1 would exclude a class for ever, or make it certain


class PriorRow(NamedTuple):
    """The weight of one class in one hour or at one site.

    Attributes:
        name: The class.
        key: The hour or site.
        weight: Factor of its odds, above 0.
    """

    name: str
    key: str
    weight: float


def training_keys(run: Run, by: str, column: str) -> tuple[list[Clip], list[str]]:
    """The training clips of a run whose hour or site is known.

    Args:
        run: The run.
        by: "hour" (of the clock time in name or metadata of a recording) or "site" (a column of its table of labels).
        column: Column with the site.

    Returns:
        The clips, and the hour or site of each.

    Raises:
        UserError: The run has no training clips of its own, or the hour or site of none of them is known.
    """
    clips = read_partition(run.path / PARTITION, TRAIN)
    if by == "hour":
        starts = {path: recording_start(path) for path in dict.fromkeys(clip.path for clip in clips)}
        times = [starts[clip.path].at(clip.onset_s) for clip in clips]
        keys = ["" if time is None else str(time.hour) for time in times]
        missing = "has a clock time in its name or metadata (docs/tables.md lists the forms)"
    else:
        of = {clip.path: clip.row.get(column, "").strip() for clip in read_manifest(run.experiment.data).clips}
        keys = [of.get(clip.path, "") for clip in clips]
        missing = f"has a value in the column {escaped(column)!r} of the table of labels; name the column with --column"
    known = [i for i, key in enumerate(keys) if key]
    if not known:
        raise UserError(f"A prior by {by} cannot be fitted: none of the {len(clips)} training clips {missing}.")
    if len(known) < len(clips):
        say(f"{count(len(clips) - len(known), 'training clip')} without a known {by} left out.")
    return [clips[i] for i in known], [keys[i] for i in known]


def fit_prior(
    clips: Sequence[Clip], keys: Sequence[str], classes: Sequence[str], *, strength: float = STRENGTH
) -> list[PriorRow]:
    """Fit the weights.

    Args:
        clips: Labeled clips.
        keys: Hour or site of each.
        classes: Class names of the model.
        strength: Recordings that the rate of all clips counts for, above 0. Default: STRENGTH.

    Returns:
        A row for each class and each hour or site, in order.

    Raises:
        UserError: All clips are of one hour or site.
    """
    if len(set(keys)) < 2:
        found = escaped(", ".join(sorted(set(keys))))
        raise UserError(f"A prior needs training clips of two or more hours or sites. Received: {found}")
    targets = clip_targets(clips, classes, multi_label=True).astype(np.float64)
    recording: dict[tuple[str, Path], list[int]] = {}
    for i, clip in enumerate(clips):
        recording.setdefault((keys[i], clip.path), []).append(i)
    of = np.array([key for key, _ in recording])
    share = np.stack([targets[rows].mean(axis=0) for rows in recording.values()])  # [n_recordings, n_classes]
    overall = share.mean(axis=0)
    rows = []
    for key in sorted(set(keys), key=lambda each: (len(each), each) if each.isdigit() else (0, each)):
        here = share[of == key]
        rate = (here.sum(axis=0) + strength * overall) / (len(here) + strength)
        weights = _odds(rate) / _odds(overall)
        rows += [PriorRow(name, key, float(weight)) for name, weight in zip(classes, weights, strict=True)]
    return rows


def _odds(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    limited = rate.clip(LEAST_RATE, 1 - LEAST_RATE)
    return np.asarray(limited / (1 - limited))
