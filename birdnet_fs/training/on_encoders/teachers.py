"""Teachers on foreign encoders: their probabilities for whole clips, from kept embeddings.

An encoder takes a tenth of a second for a window, too long for every segment of every epoch. So a student learns the
probabilities of the clips that its segments are cut from, as it does from a table of saved probabilities.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import Run


def on_encoders(runs: Sequence[Run]) -> bool:
    """Whether one of the teachers is a head on encoders."""
    return any(run.experiment.model.encoder for run in runs)


class ClipProbabilities:
    """Mean probabilities of teachers for clips.

    Args:
        runs: The teachers, of which one or more are on encoders.
        classes: Classes of the student, in the order of the columns of `of`.
        settings: The distillation of the student.

    Raises:
        UserError: The student is to learn embeddings as well.
    """

    def __init__(self, runs: Sequence[Run], classes: Sequence[str], settings: schema.Distillation) -> None:
        if settings.features:
            first = next(run for run in runs if run.experiment.model.encoder)
            raise UserError(
                "distillation.features compares the embeddings of single segments, which a teacher on an encoder "
                f"({escaped(first.path)}) does not give; set it to 0. Received: {settings.features}"
            )
        self._runs, self._classes = runs, classes

    def of(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """The probabilities of clips.

        Args:
            clips: Clips of the training.

        Returns:
            float32 [n_clips, n_classes].

        Raises:
            UserError: A clip cannot be read any more.
        """
        total = np.zeros((len(clips), len(self._classes)))
        for run in self._runs:
            scored = score_clips(open_engine(run.path), clips)
            if len(scored.clips) < len(clips):
                raise UserError(scored.ledger.summary())
            total += scored.probabilities[:, [run.classes.index(name) for name in self._classes]]
        return (total / len(self._runs)).astype(np.float32)
