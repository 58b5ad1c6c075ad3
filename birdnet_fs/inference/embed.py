"""Embeddings of clips: the mean, over the windows that cover a clip, of the embeddings of a trained network."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import torch
from numpy.typing import NDArray

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.partition import PARTITION, TRAIN, read_partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import WindowRule, clip_rule, pad_to
from birdnet_fs.inference.engine import NumpyFunction, network_features
from birdnet_fs.models.lowering.lower import lower
from birdnet_fs.runs.run import Run

PADDING_MODES = ("silence", "repeat")
MAX_TRAINING_CLIPS = 200  # in a mean of training clips
BATCH = 64  # windows per call of the network
Floats = NDArray[np.float32]
KeptFeatures = Callable[[Sequence[Clip]], tuple[np.ndarray, NDArray[np.int64]]]


class Item(NamedTuple):
    """An item of a validation or test episode: a whole clip, or one window of the first or second half of a clip.

    Attributes:
        clip: Index of the clip.
        part: 0 for the first half, 1 for the second. Default: -1, the whole clip.
        place: Number of the window in its half, from 0.
        n_places: Number of evenly spread windows in the half.
    """

    clip: int
    part: int = -1
    place: int = 0
    n_places: int = 1


class Embedder:
    """Embeddings of waveforms, by a network with its current weights and without augmentation.

    Args:
        model: Features [batch, *input_shape] -> logits, with a layer "embedding".
        spec: The front-end of the network; of a head on encoders, sample rate and window.
        features: Windows float32 [n, n_samples] -> features float32 [n, *input_shape]. Default: None, the log-mel
            features of `spec`.
        kept: Clips -> features float32 [n_windows, *input_shape] of the windows that cover them, and the number of
            windows of each clip, for features that are computed once and kept. Default: None.
    """

    def __init__(
        self,
        model: keras.Model,
        spec: schema.FrontEnd,
        features: NumpyFunction | None = None,
        kept: KeptFeatures | None = None,
    ) -> None:
        self.kept = kept
        self.spec = spec
        self._features = features or functools.partial(network_features, spec=spec)
        self.rule = clip_rule(spec.n_samples, spec.sample_rate_hz)
        self._forward = lower(models.with_outputs(model, ["embedding"]))
        self._device = model.trainable_variables[0].value.device

    def mean(self, windows: np.ndarray) -> np.ndarray:
        """The mean embedding [width] of windows [n, n_samples]."""
        total: Any = 0.0
        for start in range(0, len(windows), BATCH):
            total += self._batch(windows[start : start + BATCH]).sum(0).cpu().numpy()
        return total / len(windows)

    def each(self, windows: np.ndarray) -> np.ndarray:
        """The embeddings [n, width] of windows [n, n_samples]."""
        starts = range(0, len(windows), BATCH)
        return np.concatenate([self._batch(windows[start : start + BATCH]).cpu().numpy() for start in starts])

    def of_features(self, features: np.ndarray) -> Floats:
        """The embeddings [n, width] of features [n, *input_shape]."""
        starts = range(0, len(features), BATCH)
        return np.concatenate([self._embedded(features[start : start + BATCH]).cpu().numpy() for start in starts])

    def _batch(self, windows: np.ndarray) -> torch.Tensor:
        return self._embedded(self._features(windows))

    def _embedded(self, features: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():
            return self._forward(torch.from_numpy(features).to(self._device)).float()

    def items(self, waveforms: Waveforms, items: Sequence[Item]) -> np.ndarray:
        """Embeddings of items [n_items, width]: of one window, or the mean over the windows that cover a whole clip."""
        return np.stack([self.mean(_windows(waveforms[item.clip], item, self.rule)) for item in items])


def embedding_width(model: keras.Model) -> int:
    """Number of dimensions of the embedding of a network."""
    return int(model.get_layer("embedding").output.shape[-1])


def embed_clips(embedder: Embedder, waveforms: Waveforms, title: str, fill: str = "silence") -> Floats:
    """The mean embedding over the windows that cover each clip.

    Args:
        embedder: Embedder of a trained network.
        waveforms: The clips.
        title: Title of the progress bar.
        fill: Padding of a clip that is shorter than the network's input, one of PADDING_MODES: "silence", as when
            recordings are analyzed, or "repeat", the clip again and again, as the baseline of the DCASE few-shot task
            does. Default: "silence".

    Returns:
        float32 [n_clips, width].

    Raises:
        UserError: `fill` is none of them.
    """
    if fill not in PADDING_MODES:
        raise UserError(f"fill must be one of {', '.join(PADDING_MODES)}. Received: {fill!r}")
    if embedder.kept is not None and fill == "silence":
        features, n_windows = embedder.kept(waveforms.clips)
        first = np.cumsum(n_windows) - n_windows
        sums = np.add.reduceat(embedder.of_features(features).astype(np.float64), first)
        return (sums / n_windows[:, None]).astype(np.float32)
    n_samples = embedder.spec.n_samples
    rule = clip_rule(n_samples, embedder.spec.sample_rate_hz)

    def windows(waveform: Floats) -> Floats:
        if fill == "repeat" and len(waveform) < n_samples:
            waveform = np.resize(waveform, n_samples)
        return rule.cut(waveform)

    rows = track(range(len(waveforms)), title, unit="clip")
    return np.stack([embedder.mean(windows(waveforms[i])) for i in rows]).astype(np.float32)


def training_mean_embedding(run: Run, model: keras.Model, embedder: Embedder) -> Floats:
    """The mean embedding [width] of clips that a run was trained on, MAX_TRAINING_CLIPS at most, evenly spread.

    When their recordings are no longer at their paths, the mean is zero, with a line on stderr.

    Args:
        run: The run.
        model: Network of the run.
        embedder: The embedder of this network.

    Returns:
        float32 [width].
    """
    clips = read_partition(run.path / PARTITION, TRAIN) if (run.path / PARTITION).is_file() else ()
    clips = tuple(clip for clip in clips if clip.path.is_file())
    chosen = (
        [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, MAX_TRAINING_CLIPS).round().astype(int))]
        if clips
        else []
    )
    if not chosen:
        say("The recordings that the run was trained on are gone, so no mean is subtracted from the embeddings.")
        return np.zeros(embedding_width(model), np.float32)
    waveforms = Waveforms(chosen, run.frontend.sample_rate_hz)
    return embed_clips(embedder, waveforms, "embedding training clips").mean(0)


def _windows(waveform: np.ndarray, item: Item, rule: WindowRule) -> np.ndarray:
    if item.part < 0:
        return rule.cut(waveform)
    middle = len(waveform) // 2
    part = waveform[middle:] if item.part else waveform[:middle]
    spare = max(0, len(part) - rule.n_samples)
    onset = round(spare * item.place / max(1, item.n_places - 1))
    return pad_to(part[onset:], rule.n_samples)[None]
