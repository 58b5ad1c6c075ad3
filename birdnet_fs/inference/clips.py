"""Scores of labeled clips: the mean probability over the windows that cover each clip."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from birdnet_fs.core.progress import track
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.clip_scores import score_waveforms
from birdnet_fs.inference.engine import Engine


@dataclass(frozen=True)
class ClipScores:
    """Probabilities float32 [n_clips, n_classes] of the clips that could be read; the ledger lists all."""

    clips: tuple[Clip, ...]
    probabilities: np.ndarray
    ledger: Ledger


def score_clips(engine: Engine, clips: Sequence[Clip]) -> ClipScores:
    """Score clips with a run or an artifact.

    Args:
        engine: What `open_engine` gave.
        clips: Labeled clips of any length, cut by `clip_rule`.

    Raises:
        UserError: None of the clips could be read.
    """
    waveforms = Waveforms(clips, engine.sample_rate_hz)
    rule = clip_rule(engine.n_samples, engine.sample_rate_hz)
    read = (waveforms[i] for i in track(range(len(waveforms)), "scoring clips", unit="clip"))
    scores = score_waveforms(engine.logits, read, rule=rule, activation=engine.activation)
    return ClipScores(waveforms.clips, scores, waveforms.ledger)
