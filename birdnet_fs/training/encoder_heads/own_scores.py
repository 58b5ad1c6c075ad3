"""The encoder's own scores for classes of its labels, blended with a head on its embedding.

A pretrained encoder was trained on far more recordings of a species than the user has, and its own score for it is
often better than a head on a few clips; a head is fitted to the user's site, and to classes that the encoder lacks. The
logits of a shared class are the weighted mean of both, after both are calibrated (a product of experts with weights,
Hinton 2002, https://doi.org/10.1162/089976602760128018, in logarithms). The weight is chosen with the settings of the
head, on clips that the head was not fitted to (choosing.py).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.training.encoder_heads.data import HeadData
from birdnet_fs.training.encoder_heads.scoring import calibrate

WEIGHTS = tuple(i / 10 for i in range(11))  # of the encoder's own scores
DEFAULT_WEIGHT = 0.5  # where no clip can be held out


@dataclasses.dataclass(frozen=True, eq=False)
class OwnScores:
    """Logits of the encoder for the windows of clips, and their calibration.

    Attributes:
        logits: float32 [n_windows, n_own].
        places: The class of each of them as its place in the targets [n_own].
        scale: Calibration, a factor.
        shift: Calibration [n_own].
    """

    logits: NDArray
    places: Sequence[int]
    scale: float
    shift: NDArray[np.float64]

    def part(self, windows: NDArray[np.bool_]) -> "OwnScores":
        """The scores of some windows, given as a mask [n_windows]."""
        return dataclasses.replace(self, logits=self.logits[windows])

    def blended(self, logits: NDArray, weight: float) -> NDArray[np.float64]:
        """Calibrated logits of a head with the own scores blended in.

        Args:
            logits: [n_windows, n_classes], calibrated logits of a head for the same windows.
            weight: Weight of the own scores, 0..1.

        Returns:
            Logits [n_windows, n_classes].
        """
        found, known = np.array(logits, np.float64), list(self.places)
        found[:, known] = (1 - weight) * found[:, known] + weight * (self.logits * self.scale + self.shift)
        return found

    def in_weights(self, weights: Mapping[str, np.ndarray], weight: float) -> dict[str, np.ndarray]:
        """Weights of a head whose layer "logits" reads embeddings and, behind them, the own scores.

        Args:
            weights: Arrays of the calibrated head alone, by variable path; "logits/kernel" is [width, n_classes].
            weight: Weight of the own scores, 0..1.

        Returns:
            Weights that give `blended` logits; the kernel is [width + n_own, n_classes].
        """
        found, known = dict(weights), list(self.places)
        n_classes = len(found["logits/bias"])
        share, shift = np.ones(n_classes), np.zeros(n_classes)
        share[known], shift[known] = 1 - weight, weight * self.shift
        behind = np.zeros((len(known), n_classes))
        behind[np.arange(len(known)), known] = weight * self.scale
        found["logits/kernel"] = np.concatenate([found["logits/kernel"] * share, behind]).astype(np.float32)
        found["logits/bias"] = (found["logits/bias"] * share + shift).astype(np.float32)
        return found


def calibrated_own_scores(logits: NDArray, places: Sequence[int], data: HeadData, *, multi_label: bool) -> OwnScores:
    """Own scores, calibrated on clips, to none of which the encoder is fitted here.

    Args:
        logits: float32 [n_windows, n_own], of the windows of `data`.
        places: The class of each of them as its place in the targets [n_own].
        data: The training clips.
        multi_label: Sigmoid for each class, else one softmax.

    Returns:
        The own scores.
    """
    part = dataclasses.replace(data, targets=data.targets[:, list(places)], augmented=None)
    return OwnScores(logits, places, *calibrate(logits, part, multi_label=multi_label))
