"""Teachers on foreign encoders: their probabilities and embeddings for whole clips, from kept embeddings.

An encoder takes a tenth of a second for a window, too long for every segment of every epoch. So a student learns the
probabilities of the clips that its segments are cut from, as it does from a table of saved probabilities, and with
`distillation.features` the mean embedding of the windows of the clip. The clip is read at the rate of the encoder and
cut into its windows: its front-end need not be that of the student.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.encoders.labels import NO_CLASSES
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.encode_clips import encode_clips
from birdnet_fs.inference.encoder_features import open_features
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import Run

SMALLEST_SCALE = 1e-12  # of embeddings that are all equal, as those of a single clip


def on_encoders(runs: Sequence[Run]) -> bool:
    """Whether one of the teachers is a head on encoders."""
    return any(run.experiment.model.encoder for run in runs)


class ClipProbabilities:
    """Mean probabilities of teachers for clips.

    Args:
        runs: The teachers, of which one or more are on encoders.
        classes: Classes of the student, in the order of the columns of `of`.
    """

    def __init__(self, runs: Sequence[Run], classes: Sequence[str]) -> None:
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


class ClipEmbeddings:
    """Embeddings of clips by the encoders of teachers, side by side.

    The embedding of a clip is the mean of those of its windows. It is centered and scaled, by one factor for each
    teacher, so that the embeddings of the clips have mean 0 and mean square 1: embeddings of many encoders lie close
    around a common direction, which every student reaches at once and which would fill the distance between them.

    Args:
        runs: The teachers.

    Attributes:
        widths: Width of the embedding of each teacher.

    Raises:
        UserError: One of the teachers is not on an encoder, or the encoder of one has changed.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        other = next((run for run in runs if not run.experiment.model.encoder), None)
        if other is not None:
            raise UserError(
                "distillation.features takes embeddings of whole clips from teachers on encoders, and of single "
                f"segments from others; name teachers of one kind, or set it to 0. Received: {escaped(other.path)}, "
                "which is not on an encoder, beside one that is"
            )
        # without tokens and own scores: the embedding alone
        opened = (open_features(run, own_scores=False) for run in runs)
        self._features = [dataclasses.replace(each, own=NO_CLASSES, n_tokens=0) for each in opened]
        self._hops_s = [run.experiment.data.clip_hop_s for run in runs]  # as for the probabilities: kept embeddings
        self.widths = tuple(each.width for each in self._features)

    def of(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """The embeddings of clips.

        Args:
            clips: Clips of the training.

        Returns:
            float32 [n_clips, sum of the widths].

        Raises:
            UserError: A clip cannot be read any more.
        """
        found = []
        for features, hop_s in zip(self._features, self._hops_s, strict=True):
            encoded = encode_clips(features, clips, "embedding training clips", hop_s=hop_s)
            if len(encoded.clips) < len(clips):
                raise UserError(encoded.ledger.summary())
            first = np.cumsum([0, *encoded.n_windows])[:-1]
            means = np.add.reduceat(encoded.features.astype(np.float64), first) / encoded.n_windows[:, None]
            centered = means - means.mean(0)
            found.append(centered / max(float(np.sqrt(np.square(centered).mean())), SMALLEST_SCALE))
        return np.concatenate(found, axis=1).astype(np.float32)
