"""One vector for each labeled clip, by any embedding: a run, an exported file, a foreign encoder, or `logmel`.

The vector is the mean over the windows that cover the clip (`windows.clip_rule`). Embeddings are kept in the folder of
`inference.encode_clips`, so that a second fit does not decode the audio again.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.encoders.cards import card_from_json
from birdnet_fs.inference.embedder import embedder_facts
from birdnet_fs.inference.encode_clips import WindowFeatures, encode_clips
from birdnet_fs.inference.encoder_features import EncoderFeatures, references
from birdnet_fs.motifs.log_mel_statistics import NAME as LOG_MEL
from birdnet_fs.motifs.log_mel_statistics import LogMelStatistics

Floats = NDArray[np.float32]
_WINDOWS = 32  # per call of the embedding


@dataclass(frozen=True, eq=False)
class EmbeddedClips:
    """Clips and their vectors.

    Attributes:
        clips: The clips that could be read, in order.
        vectors: float32 [n_clips, width].
        ledger: The status of every clip.
    """

    clips: tuple[Clip, ...]
    vectors: Floats
    ledger: Ledger


def open_embedding(place: str | Path, *, dim: int = 0, card: str = "", threads: int = 0) -> WindowFeatures:
    """Open an embedding; UserErrors of `embedder_facts` are passed on.

    Args:
        place: A run folder, an exported file with embeddings, a foreign .tflite or .onnx encoder, or "logmel".
        dim: Width that the embedding must have. Default: 0, any.
        card: Card of a foreign encoder. Default: "", found by the content of the file.
        threads: CPU threads of its runtime. Default: 0, the runtime decides.

    Returns:
        The features of windows.

    Raises:
        UserError: There is no such file, or the embedding has another width than `dim`.
    """
    features: WindowFeatures = LogMelStatistics()
    if str(place) != LOG_MEL:
        if not Path(place).exists():
            raise UserError(
                f"An embedding must be a run folder, an exported file, a foreign encoder or {LOG_MEL}. Received: "
                f"{escaped(place)}, which does not exist."
            )
        features = EncoderFeatures((embedder_facts(place, card),), (Path(place),), (card,), threads=threads)
        if license_of := features.facts[0].license:
            say(f"{features.facts[0].name}: license {license_of}.")
    width = width_of(features)
    if dim not in (0, width):
        raise UserError(
            f"The embedding {escaped(place)} has a width of {width}; leave --dim out, or give --dim {width}. "
            f"Received: {dim}"
        )
    return features


def width_of(features: WindowFeatures) -> int:
    """Number of values of a vector."""
    return int(np.prod(features.input_shape))


def embed_clips(features: WindowFeatures, clips: Sequence[Clip], title: str = "embedding windows") -> EmbeddedClips:
    """Compute the vector of every clip; UserErrors of `encode_clips` are passed on.

    Args:
        features: The embedding.
        clips: Clips; one that cannot be read is left out and listed in the ledger.
        title: Title of the progress. Default: "embedding windows".

    Returns:
        The clips and their vectors.
    """
    found = encode_clips(features, clips, title)
    return EmbeddedClips(found.clips, _means(found.features, found.n_windows), found.ledger)


def embed_waveforms(features: WindowFeatures, waveforms: np.ndarray) -> Floats:
    """Compute the vector of every waveform as `embed_clips` does.

    Args:
        features: The embedding.
        waveforms: float32 [n, n_samples] in ±1 of any length, at the rate of the embedding.

    Returns:
        float32 [n, width].
    """
    rule = clip_rule(features.n_samples, features.sample_rate_hz)
    windows = [rule.cut(waveform) for waveform in waveforms]
    if not windows:
        return np.zeros((0, width_of(features)), np.float32)
    rows = np.concatenate(windows)
    batches = range(0, len(rows), _WINDOWS)
    embedded = np.concatenate([features.features(rows[start : start + _WINDOWS]) for start in batches])
    return _means(embedded, np.array([len(each) for each in windows]))


def _means(rows: np.ndarray, n_windows: np.ndarray) -> Floats:
    """Mean of consecutive rows [n_windows, width] that belong to one clip."""
    first = np.cumsum(n_windows) - n_windows
    sums = np.add.reduceat(rows.astype(np.float64), first) if len(n_windows) else rows
    return np.asarray(sums / n_windows[:, None], np.float32)


def embedding_reference(features: WindowFeatures) -> dict[str, Any]:
    """Reference to an embedding in a stored model, for JSON: place, card, identity, width, rate and license."""
    if isinstance(features, EncoderFeatures):
        return asdict(references(features)[0])
    return {"name": LOG_MEL, "path": "", "identity": features.identity, "width": width_of(features)}


def open_reference(stored: Any, owner: Path, *, place: str | Path = "", threads: int = 0) -> WindowFeatures:
    """Open the embedding that a stored model was fitted with.

    Args:
        stored: Result of `embedding_reference`, read from a file.
        owner: File of the model, for messages.
        place: Path of the run or encoder that embeds, if it was moved. Default: "", the path in the metadata, or the
            file of that name beside the model.
        threads: CPU threads of its runtime. Default: 0, the runtime decides.

    Returns:
        The features of windows.

    Raises:
        UserError: The entry is damaged, the embedding is not there any more, or it has changed.
    """
    keys = {"name": str, "path": str, "identity": str, "width": int}
    if not isinstance(stored, dict) or not all(isinstance(stored.get(key), kind) for key, kind in keys.items()):
        raise UserError(f"{escaped(owner)} does not name its embedding; copy it again.")
    if stored["name"] == LOG_MEL and not stored["path"]:
        features = open_embedding(LOG_MEL)
        now = features.identity
    else:
        beside = owner.parent / os.path.basename(stored["path"])
        found = Path(place) if place else next((p for p in (Path(stored["path"]), beside) if p.exists()), None)
        if found is None or not found.exists():
            raise UserError(
                f"The embedding of {escaped(owner)} was {escaped(stored['path'])}, and is not there any more; put it "
                f"back, or copy it to {escaped(beside)}."
            )
        card = stored.get("card")
        given = card_from_json(card, str(owner)) if isinstance(card, dict) and card else ""
        facts = embedder_facts(found, given)
        features = EncoderFeatures((facts,), (found,), (given,), threads=threads)
        now = facts.identity
    if now != stored["identity"]:
        raise UserError(
            f"The embedding {escaped(stored['path'] or LOG_MEL)} is not the one that {escaped(owner)} was fitted with: "
            "it has changed since. Put the earlier one back, or fit the model again."
        )
    return features
