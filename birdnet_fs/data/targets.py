"""Labels of clips as targets that a loss compares logits with, the classes that are their columns, and negatives."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say_once
from birdnet_fs.core.text import escaped
from birdnet_fs.data.copies import match_recordings
from birdnet_fs.data.label_formats.cells import NO_CALL
from birdnet_fs.data.manifest import Clip, Manifest, read_background

NO_CLASS = "noise"  # class of background recordings where clips without any of the classes have a class of their own
UNKNOWN_CLASS = "unknown"  # class of enrolled runs for audio that is similar to no other class


def labeled_background(
    experiment: schema.Experiment, classes: Sequence[str], clips: Sequence[Clip]
) -> tuple[tuple[Clip, ...], Manifest] | None:
    """The recordings of `data.background` as training clips without any of the classes, of a head on an encoder.

    Networks mix such recordings into clips as noise, and a head is fitted to their windows. UserErrors of
    `read_background` are passed on.

    Args:
        experiment: Settings.
        classes: The classes of the labeled clips.
        clips: The labeled clips; background recordings that are one of theirs are left out.

    Returns:
        The clips, and the manifest that they are from. With `data.noise_label=class` their label is the class of noise
        that the labeled clips have, or else NO_CLASS; otherwise they have none. None where background recordings are
        no training clips: of a network, or with one label per clip and `data.noise_label=negative`.
    """
    data = experiment.data
    if not experiment.model.encoder or not data.background:
        return None
    if not data.multi_label and data.noise_label == "negative":
        say_once(
            "The recordings of data.background are not among the training clips: each clip has one label, and they "
            "have none. data.noise_label=class makes them a class of their own."
        )
        return None
    found = read_background(data)
    known = match_recordings(found.clips, clips)
    if any(known):
        say_once(
            f"{sum(known)} of {len(known)} background recordings are left out: they are among the labeled recordings."
        )
    named = [name for name in classes if name.lower() in NO_CALL]
    labels = () if data.noise_label == "negative" else (named[0] if named else NO_CLASS,)
    kept = [clip for clip, same in zip(found.clips, known, strict=True) if not same]
    return tuple(dataclasses.replace(clip, labels=labels, secondary=(), unknown=()) for clip in kept), found


def clip_targets(
    clips: Sequence[Clip], classes: Sequence[str], *, multi_label: bool, data: schema.Data | None = None
) -> np.ndarray:
    """Targets of labeled clips; labels that are not classes are ignored.

    Args:
        clips: Clips with their labels; secondary labels may be among the labels, too.
        classes: Names of the columns.
        multi_label: Whether all labels of a clip count, secondary labels included; if False, only its first label.
        data: Settings for training: with its `secondary`, the target of secondary labels is 1 ("label"),
            `secondary_target` ("soft"), -1 for unknown ("mask") or 0 ("ignore"). Default: 1.

    Returns:
        float32 [n_clips, n_classes], 1 for a label of the clip, else 0 or as above; -1 for classes that are unknown in
        the clip, with settings for training.
    """
    how = data.secondary if data else "label"
    second = {"label": 1.0, "soft": data.secondary_target if data else 1.0, "mask": -1.0, "ignore": 0.0}[how]
    column = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(clips), len(classes)), np.float32)
    for row, clip in enumerate(clips):
        if multi_label:
            targets[row, [column[label] for label in clip.secondary if label in column]] = second
            if data:
                targets[row, [column[label] for label in clip.unknown if label in column]] = -1
        for label in clip.labels if multi_label else clip.labels[:1]:
            if label in column and not (multi_label and label in clip.secondary):
                targets[row, column[label]] = 1
    return targets


def check_same_classes(theirs: Sequence[str], ours: Sequence[str], name: str) -> None:
    """Check that a table or a run has the classes that are trained.

    Args:
        theirs: Class names of the table or run, in any order.
        ours: Class names that are trained.
        name: Name of the table or run for the message.

    Raises:
        UserError: The classes differ; the message names one that does.
    """
    odd = sorted(set(theirs) ^ set(ours))
    if odd:
        problem = "is missing" if odd[0] in set(ours) else "is not trained here"
        raise UserError(
            f"{escaped(name)} must have the {len(ours)} classes that are trained here, in any order; {odd[0]!r} "
            f"{problem} ({len(odd)} differ)."
        )
