"""Labels of clips as the numbers that a loss compares logits with."""

from collections.abc import Sequence

import numpy as np

from birdnet_fs import schema
from birdnet_fs.data.manifest import Clip


def clip_targets(
    clips: Sequence[Clip], classes: Sequence[str], *, multi_label: bool, data: schema.Data | None = None
) -> np.ndarray:
    """Targets float32 [n_clips, n_classes]: 1 for the label of a clip, with `multi_label` for all, secondary too.

    Args:
        clips: With their labels.
        classes: Names in the order of the columns.
        multi_label: Any number of labels, else the first one alone.
        data: For training: what its `secondary` makes of secondary labels (1, secondary_target, -1 for "not known",
            or 0); None = 1.
    """
    how = data.secondary if data else "label"
    second = {"label": 1.0, "soft": data.secondary_target if data else 1.0, "mask": -1.0, "ignore": 0.0}[how]
    column = {name: i for i, name in enumerate(classes)}
    targets = np.zeros((len(clips), len(classes)), np.float32)
    for row, clip in enumerate(clips):
        if multi_label:
            targets[row, [column[label] for label in clip.secondary if label in column]] = second
        for label in clip.labels if multi_label else clip.labels[:1]:
            if label in column:
                targets[row, column[label]] = 1
    return targets
