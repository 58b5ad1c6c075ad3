"""Labels of clips as targets that a loss compares logits with, and the classes that are their columns."""

from collections.abc import Sequence

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip


def clip_targets(
    clips: Sequence[Clip], classes: Sequence[str], *, multi_label: bool, data: schema.Data | None = None
) -> np.ndarray:
    """Targets of labeled clips; labels that are not classes are ignored.

    Args:
        clips: Clips with their labels.
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
            if label in column:
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
