"""Scores of clips: for each class the mean of the probabilities of the windows that cover the clip.

This is the one rule wherever a clip, or a segment longer than a network's input, gets one score: validation during
training, `evaluate`, the shorter members of an ensemble, and teachers (`activations.tensor_mean_logits`, the same mean
in logarithms). The mean is of probabilities, not of logits, and each window counts the same. The embedding of a clip is
another thing: the mean of its windows' embeddings (`episodic.Embedder`).
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.data.windows import WindowRule
from birdnet_fs.inference.activations import to_probabilities

if TYPE_CHECKING:
    import keras

BATCH = 32  # windows through the network at a time
Network = Callable[[np.ndarray], np.ndarray]


def score_waveforms(
    logits_of: Network, waveforms: Iterable[np.ndarray], *, rule: WindowRule, activation: str
) -> NDArray[np.float32]:
    """Score clips.

    Args:
        logits_of: Windows float32 [n, rule.n_samples] -> logits [n, n_classes], for n up to BATCH.
        waveforms: The clips, float32 [n_samples_of_clip] in +-1 each, of any length.
        rule: How the clips are cut (`windows.clip_rule`).
        activation: "softmax" or "sigmoid", what turns the logits into probabilities.

    Returns:
        float32 [n_clips, n_classes] in 0..1.
    """
    rows = []
    for waveform in waveforms:
        windows = rule.cut(waveform)
        parts = [logits_of(windows[start : start + BATCH]) for start in range(0, len(windows), BATCH)]
        rows.append(mean_over_windows(to_probabilities(np.concatenate(parts), activation), [len(windows)])[0])
    return np.stack(rows).astype(np.float32)


def mean_over_windows(probabilities: np.ndarray, n_windows: ArrayLike) -> NDArray[np.float64]:
    """The mean over the windows of each clip.

    Args:
        probabilities: [n_windows_of_all, n_classes], the windows of a clip behind each other.
        n_windows: [n_clips], how many windows each clip has, 1 or more.

    Returns:
        float64 [n_clips, n_classes].

    >>> mean_over_windows(np.array([[0.5], [0.25], [0.75]]), [1, 2]).ravel().tolist()
    [0.5, 0.5]
    """
    counts = np.asarray(n_windows)
    first = np.cumsum(counts) - counts
    return np.add.reduceat(np.asarray(probabilities, np.float64), first, axis=0) / counts[:, None]


def lowered_network(model: "keras.Model") -> Network:
    """A Keras model as a function of NumPy arrays, with its weights as they are now, BatchNorm folded in.

    Args:
        model: Features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes]; runs where its weights lie.

    Returns:
        Features float32 [n, n_frames, n_mels, n_channels] -> logits float32 [n, n_classes].
    """
    import torch

    from birdnet_fs.models.lowering.lower import lower

    network, device = lower(model, fold=True), model.weights[0].value.device

    def logits_of(features: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            found = network(torch.from_numpy(features).to(device), training=False)
        return found.float().cpu().numpy()

    return logits_of
