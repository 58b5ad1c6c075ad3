"""Scores of clips: for each class the mean probability over the windows that cover the clip.

This is the one rule wherever a clip, or a segment longer than a network's input, gets one score: validation during
training, `evaluate`, the shorter members of an ensemble, and teachers (`activations.tensor_mean_logits`, the same mean
in logarithms). The mean is of probabilities, not of logits, and each window counts the same. The embedding of a clip is
something else: the mean of its windows' embeddings (`embed.Embedder`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.progress import track
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.waveforms import Read, Waveforms
from birdnet_fs.data.windows import WindowRule, clip_rule
from birdnet_fs.inference.activations import to_probabilities
from birdnet_fs.inference.encode_clips import encode_clips
from birdnet_fs.inference.engine import Engine, NumpyFunction

BATCH = 32  # windows per call of the network
HEAD_BATCH = 4096  # embeddings per call of a head


@dataclass(frozen=True)
class ClipScores:
    """Scores of labeled clips.

    Attributes:
        clips: The clips that could be read, in order.
        probabilities: float32 [n_clips, n_classes] in 0..1, one row per clip of `clips`.
        ledger: The status of every clip, those that could not be read included.
    """

    clips: tuple[Clip, ...]
    probabilities: np.ndarray
    ledger: Ledger


def score_clips(engine: Engine, clips: Sequence[Clip], read: Read = Waveforms) -> ClipScores:
    """Score labeled clips; a UserError of `Waveforms` is passed on when none of them can be read.

    Args:
        engine: The model, from `open_engine`.
        clips: Labeled clips of any length, cut by `windows.clip_rule`.
        read: Decodes clips at a sample rate, or reads them from a cache. Default: `Waveforms`.

    Returns:
        The scores of the clips that could be read, and the ledger of all.
    """
    if engine.encoder is not None and engine.head is not None:
        encoded = encode_clips(engine.encoder, clips, hop_s=engine.clip_hop_s)
        logits = [
            engine.head(encoded.features[i : i + HEAD_BATCH]) for i in range(0, len(encoded.features), HEAD_BATCH)
        ]
        probabilities = to_probabilities(np.concatenate(logits), engine.activation)
        scores = mean_over_windows(probabilities, encoded.n_windows).astype(np.float32)
        return ClipScores(encoded.clips, scores, encoded.ledger)
    waveforms = read(clips, engine.sample_rate_hz)
    rule = clip_rule(engine.n_samples, engine.sample_rate_hz, engine.clip_hop_s)
    each = (waveforms[i] for i in track(range(len(waveforms)), "scoring clips", unit="clip"))
    scores = score_waveforms(engine.logits, each, rule=rule, activation=engine.activation)
    return ClipScores(waveforms.clips, scores, waveforms.ledger)


def score_waveforms(
    logits_of: NumpyFunction, waveforms: Iterable[np.ndarray], *, rule: WindowRule, activation: str
) -> NDArray[np.float32]:
    """Score the waveforms of clips.

    Args:
        logits_of: Windows float32 [n, rule.n_samples] -> logits [n, n_classes], for n up to BATCH.
        waveforms: The clips, float32 [n_samples_of_clip] in ±1 each, of any length.
        rule: Rule by which the clips are cut (`windows.clip_rule`).
        activation: "softmax" or "sigmoid", applied to the logits.

    Returns:
        float32 [n_clips, n_classes] in 0..1.
    """
    return score_windows(logits_of, (rule.cut(waveform) for waveform in waveforms), activation=activation)


def score_windows(
    logits_of: NumpyFunction, windows_of_clips: Iterable[np.ndarray], *, activation: str
) -> NDArray[np.float32]:
    """Score clips that are cut into windows.

    Args:
        logits_of: Windows, or their features, [n, ...] -> logits [n, n_classes], for n up to BATCH.
        windows_of_clips: The windows of each clip, or their features, [n_windows, ...].
        activation: "softmax" or "sigmoid", applied to the logits.

    Returns:
        float32 [n_clips, n_classes] in 0..1.
    """
    rows = []
    for windows in windows_of_clips:
        parts = [logits_of(windows[start : start + BATCH]) for start in range(0, len(windows), BATCH)]
        rows.append(mean_over_windows(to_probabilities(np.concatenate(parts), activation), [len(windows)])[0])
    return np.stack(rows).astype(np.float32)


def mean_over_windows(probabilities: np.ndarray, n_windows: ArrayLike) -> NDArray[np.float64]:
    """The mean over the windows of each clip.

    Args:
        probabilities: [n_windows_of_all, n_classes], the windows of a clip in consecutive rows.
        n_windows: [n_clips], number of windows of each clip, 1 or more.

    Returns:
        float64 [n_clips, n_classes].

    >>> mean_over_windows(np.array([[0.5], [0.25], [0.75]]), [1, 2]).ravel().tolist()
    [0.5, 0.5]
    """
    counts = np.asarray(n_windows)
    first = np.cumsum(counts) - counts
    return np.add.reduceat(np.asarray(probabilities, np.float64), first, axis=0) / counts[:, None]
