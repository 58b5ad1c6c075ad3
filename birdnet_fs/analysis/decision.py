"""Post-processing and thresholds of `analyze`, from its options and the calibration of the model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.analysis.postprocessing.chain import Chain, make_chain
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.inference.engine import Engine

HOP_TOLERANCE_S = 0.02


@dataclass(frozen=True)
class Decision:
    """Post-processing and thresholds of an analysis.

    Attributes:
        chain: Post-processing of the scores of a recording.
        thresholds: float32 [n_classes], lowest score of a detection, infinite for a class that is not reported; None:
            one lowest score for all classes.
        precision: The precision that the thresholds are for; 0 without thresholds.
    """

    chain: Chain
    thresholds: NDArray[np.float32] | None = None
    precision: float = 0.0

    def settings(self) -> dict[str, Any]:
        """Settings that change the tables of an analysis, as JSON values; {} without post-processing and thresholds."""
        found: dict[str, Any] = {"post": self.chain.identity} if self.chain.steps else {}
        return found | ({"precision": self.precision} if self.thresholds is not None else {})


NO_DECISION = Decision(Chain("", ""))


def make_decision(
    engine: Engine,
    *,
    precision: float | None = None,
    post: str | None = None,
    min_confidence: float | None = None,
    hop_s: float,
) -> Decision:
    """Check post-processing and precision against the model.

    Args:
        engine: The model; thresholds are those of its calibration.
        precision: Wanted share of right detections, one of those with thresholds. Default: None, no thresholds.
        post: A chain of steps. Default: None: with a precision the chain of the calibration, else none.
        min_confidence: Lowest score of all classes, which a precision replaces. Default: None.
        hop_s: Seconds between windows.

    Returns:
        The decision.

    Raises:
        UserError: The model has no thresholds for the precision, none of its classes has one, or they are for other
            scores.
    """
    if precision is None:
        return Decision(make_chain(post or "", engine.classes))
    if min_confidence is not None:
        raise UserError("--precision chooses the thresholds; leave out --min_conf.")
    stored = engine.calibration
    if stored is None:
        raise UserError(
            "--precision needs a model with thresholds; calibrate it with birdnet-fs calibrate RUN LABELED -o RUN2, "
            "and analyze with RUN2."
        )
    thresholds, classes = stored.scores_for(precision), stored.for_precision(precision)
    chain = make_chain(stored.post if post is None else post, engine.classes)
    if chain.text != stored.post:
        raise UserError(
            f"The thresholds are for scores with the post-processing {stored.post or 'none'!r}; leave out --post, or "
            f"calibrate again with --post {escaped(post or '')!r}."
        )
    if chain.identity != stored.post_identity:
        raise UserError(
            f"The files that the post-processing {stored.post!r} names have changed since the thresholds were chosen; "
            "calibrate again, or restore them."
        )
    if chain.text and abs(hop_s - stored.hop_s) > HOP_TOLERANCE_S:
        raise UserError(
            f"The thresholds are for post-processed windows every {stored.hop_s:g} s, and these start every {hop_s:g} "
            f"s; use --overlap {max(engine.segment_s - stored.hop_s, 0):g}."
        )
    missing = [name for name, each in zip(stored.classes, classes, strict=True) if each.threshold is None]
    if len(missing) == len(classes):
        reason = next(each.reason for each in classes)
        raise UserError(
            f"No class has a threshold for a precision of {precision:g} ({escaped(missing[0])}: {reason}); ask for "
            "less, or calibrate on more labels."
        )
    if missing:
        say(
            f"precision {precision:g}: {len(classes) - len(missing)} of {len(classes)} classes have a threshold; the "
            f"others are not reported (the first: {escaped(missing[0])})."
        )
    return Decision(chain, thresholds, precision)
