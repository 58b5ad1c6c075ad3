"""Clips as embeddings of a trained run."""

import keras
import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say, track
from birdnet_fs.data.partition import PARTITION, TRAIN, read_partition
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.runs.run import Run
from birdnet_fs.training.episodic import Embedder

PADDING_MODES = ("silence", "repeat")
MAX_WINDOWS_PER_CLIP = 200  # training clips that the middle is taken of
Floats = NDArray[np.float32]


def embedding_width(model: keras.Model) -> int:
    """Width of a network's embedding."""
    return int(model.get_layer("embedding").output.shape[-1])


def embed_clips(embedder: Embedder, waveforms: Waveforms, what: str, fill: str = "silence") -> Floats:
    """The mean embedding over the windows that cover each clip: float32 [n_clips, width].

    Args:
        embedder: Of a trained network.
        waveforms: The clips.
        what: Title of the progress bar.
        fill: What follows a clip that is shorter than the network's input, one of FILLS: silence, as when recordings
            are analyzed, or the clip again and again, as the baseline of the DCASE few-shot task does.

    Raises:
        UserError: `fill` is none of them.
    """
    if fill not in PADDING_MODES:
        raise UserError(f"fill must be one of {', '.join(PADDING_MODES)}. Received: {fill!r}")
    n_samples = embedder.spec.n_samples
    rule = clip_rule(n_samples, embedder.spec.sample_rate_hz)

    def windows(waveform: Floats) -> Floats:
        if fill == "repeat" and len(waveform) < n_samples:
            waveform = np.resize(waveform, n_samples)
        return rule.cut(waveform)

    rows = track(range(len(waveforms)), what, unit="clip")
    return np.stack([embedder.mean(windows(waveforms[i])) for i in rows]).astype(np.float32)


def training_mean_embedding(run: Run, model: keras.Model) -> Floats:
    """The mean embedding [width] of recordings that the run was trained on, at most MOST of them, evenly spread.

    Zeros, with a word, when the recordings are gone.
    """

    clips = read_partition(run.path / PARTITION, TRAIN) if (run.path / PARTITION).is_file() else ()
    clips = tuple(clip for clip in clips if clip.path.is_file())
    chosen = (
        [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, MAX_WINDOWS_PER_CLIP).round().astype(int))]
        if clips
        else []
    )
    if not chosen:
        say("The recordings that the run was trained on are gone, so no center is taken off the embeddings.")
        return np.zeros(embedding_width(model), np.float32)
    waveforms = Waveforms(chosen, run.frontend.sample_rate_hz)
    return embed_clips(Embedder(model, run.frontend), waveforms, "embedding training clips").mean(0)
