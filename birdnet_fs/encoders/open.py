"""`Encoder`: a foreign file that embeds waveforms as its card specifies.

The embedding of a window depends on that window alone. For TFLite files whose embedding is inside the network (BirdNET
2.4) the graph is cut behind it in memory, which leaves out the classifier; the file itself is not changed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.encoders.cards import BEFORE_LAST_DENSE, EncoderCard
from birdnet_fs.encoders.inspection import FileFacts, choose_card, embedding_of, inspect_file, scores_of
from birdnet_fs.encoders.runtimes import RunAll, onnx_function, tflite_function
from birdnet_fs.encoders.tflite_graph import before_last_dense, cut_at, read_foreign, to_bytes

BATCH = 16  # windows per call
PEAK = 0.25
SMALLEST = 1e-7  # probability, near the resolution of float32 below 1


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder ready to embed waveforms.

    Attributes:
        card: Card of the file: rate, window, normalization, embedding and own scores.
        facts: The file.
        n_scores: Number of values of its own scores; 0 = not asked for, or none.
        fixed_batch: Windows per call that the file demands; 0 = any number.
        run: Waveforms [n, ...] -> [embeddings, scores] or [embeddings].
    """

    card: EncoderCard
    facts: FileFacts
    n_scores: int
    fixed_batch: int
    run: RunAll

    @property
    def width(self) -> int:
        """Number of values of an embedding."""
        return self.card.width

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        return self.card.sample_rate_hz

    @property
    def segment_s(self) -> float:
        """Length of a window in seconds."""
        return self.card.segment_s

    @property
    def n_samples(self) -> int:
        """Length of a window in samples."""
        return self.card.n_samples

    @property
    def identity(self) -> str:
        """Hash of the file and of the fields of the card that change an embedding, 64 hexadecimal digits."""
        return encoder_identity(self.facts, self.card)

    def embed(self, waveforms: np.ndarray) -> np.ndarray:
        """Embed windows.

        Args:
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.

        Returns:
            float32 [n, width].

        Raises:
            UserError: The shape is not [n, n_samples], a sample is not finite, or an embedding is NaN or infinite.
        """
        return self.embed_and_score(waveforms)[0]

    def embed_and_score(self, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embed windows and give the encoder's own scores for them.

        Args:
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.

        Returns:
            Embeddings float32 [n, width], and scores float32 [n, n_scores] of the kind `card.activation`.

        Raises:
            UserError: The shape is not [n, n_samples], a sample is not finite, or an output of the file is of another
                shape, NaN or infinite.
        """
        if waveforms.ndim != 2 or waveforms.shape[1] != self.n_samples:
            raise UserError(
                f"Waveforms for {self.card.name} must be [n, {self.n_samples}] ({self.segment_s:g} s at "
                f"{self.sample_rate_hz} Hz). Received shape: {list(waveforms.shape)}"
            )
        if not np.isfinite(waveforms).all():
            raise UserError("The waveform holds samples that are NaN or infinite; repair the recording.")
        widths = (self.width, self.n_scores)
        found = [np.empty((len(waveforms), width), np.float32) for width in widths]
        step = self.fixed_batch or BATCH
        for start in range(0, len(waveforms), step):
            batch = normalized(waveforms[start : start + step], self.card.normalization)
            given = batch
            if self.fixed_batch and len(batch) < self.fixed_batch:
                given = np.concatenate([batch, np.zeros((self.fixed_batch - len(batch), self.n_samples), np.float32)])
            answers = self.run(given.reshape(self._shape(len(given))))
            for rows, answer, width in zip(found, answers, widths, strict=False):
                if np.shape(answer) != (len(given), width):
                    raise UserError(
                        f"{escaped(self.facts.path)} must give [{len(given)}, {width}] for {len(given)} windows; it "
                        f"gives {list(np.shape(answer))}."
                    )
                rows[start : start + step] = answer[: len(batch)]
        if not all(np.isfinite(rows).all() for rows in found):
            raise UserError(f"The output of {escaped(self.facts.path)} holds NaN or infinity for these windows.")
        return found[0], found[1]

    def embed_and_logits(self, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embed windows and give the logits of the encoder's own scores; UserErrors of `embed_and_score` are passed on.

        Args:
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.

        Returns:
            Embeddings float32 [n, width], and logits float32 [n, n_scores]: of probabilities of a sigmoid the logit, of
            a softmax the logarithm.
        """
        embeddings, scores = self.embed_and_score(waveforms)
        if self.card.activation == "logits":
            return embeddings, scores
        p = np.clip(scores.astype(np.float64), SMALLEST, 1 - SMALLEST)
        logits = np.log(p) if self.card.activation == "softmax" else np.log(p) - np.log1p(-p)
        return embeddings, logits.astype(np.float32)

    def _shape(self, n_windows: int) -> tuple[int, ...]:
        """Shape of the input for a number of windows: the file's, with open dimensions filled."""
        n_axes = len(self.facts.inputs[0].shape)
        return (n_windows, *(1,) * (n_axes - 2), self.n_samples) if n_axes > 1 else (self.n_samples,)


def normalized(waveforms: np.ndarray, normalization: str) -> np.ndarray:
    """Normalize each window on its own.

    Args:
        waveforms: float32 [n, n_samples].
        normalization: "none", or "peak_0.25": the mean is subtracted and the peak scaled to 0.25; silence stays.

    Returns:
        float32 [n, n_samples].

    >>> normalized(np.array([[1.0, 3.0], [2.0, 2.0]], np.float32), "peak_0.25").tolist()
    [[-0.25, 0.25], [0.0, 0.0]]
    """
    if normalization == "none":
        return np.ascontiguousarray(waveforms, np.float32)
    centered = waveforms - waveforms.mean(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    peak = np.abs(centered).max(axis=1, keepdims=True)
    return np.where(peak > 0, centered / np.where(peak > 0, peak, 1) * np.float32(PEAK), centered).astype(np.float32)


def encoder_identity(facts: FileFacts, card: EncoderCard) -> str:
    """Hash of a file and of the fields of its card that change an embedding, 64 hexadecimal digits."""
    parts = [facts.sha256, card.sample_rate_hz, float(card.segment_s), card.width, card.embedding, card.normalization]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def open_encoder(path: Path | str, card: str | EncoderCard = "", *, scores: bool = False, threads: int = 0) -> Encoder:
    """Open an encoder.

    UserErrors of `inspect_file` and `choose_card` are passed on.

    Args:
        path: A .tflite or .onnx file.
        card: A card, a key of CARDS, or path of a .json card. Default: "", found by the content of the file.
        scores: Whether its own scores are computed too. Default: False.
        threads: CPU threads, 1 or more. Default: 0, the runtime decides.

    Returns:
        The encoder.

    Raises:
        UserError: `threads` is negative, or scores are asked of an encoder that has none.
    """
    if threads < 0:
        raise UserError(f"threads must be 0 (the runtime decides) or more. Received: {threads}")
    facts = inspect_file(path)
    chosen = choose_card(facts, card)
    own = scores_of(facts, chosen)
    if scores and own is None:
        raise UserError(f"The encoder {chosen.name} ({escaped(facts.path)}) has no scores of its own.")
    if facts.format == "onnx":
        wanted = [embedding_of(facts, chosen), own if scores else None]
        run = onnx_function(facts.path, [each.name for each in wanted if each is not None], threads=threads)
    else:
        content = to_bytes(cut_tflite(facts, chosen, own_scores=scores))
        run = tflite_function(content, facts.path, threads=threads)
    return Encoder(chosen, facts, own.width if scores and own else 0, fixed_batch(facts), run)


def cut_tflite(facts: FileFacts, card: EncoderCard, *, own_scores: bool = False) -> Any:
    """The model of a TFLite encoder, cut at its embedding.

    Args:
        facts: The file.
        card: A card that fits it (`choose_card`).
        own_scores: Whether its own scores stay an output, behind the embedding. Default: False.

    Returns:
        A `ModelT` with the input of the file and the embedding [batch, width] as its first output.

    Raises:
        UserError: The file cannot be read.
    """
    model = read_foreign(facts.path)
    graph = model.subgraphs[0]
    places = {each: int(index) for each, index in zip(facts.outputs, graph.outputs, strict=True)}
    own = scores_of(facts, card) if own_scores else None
    behind = () if own is None else (places[own],)
    inner = before_last_dense(model)
    embedding = embedding_of(facts, card)
    if card.embedding != BEFORE_LAST_DENSE:
        inner = None if embedding is None else places[embedding]
    if inner is not None:  # always: choose_card refuses a file without the embedding
        cut_at(model, inner, (card.width,), outputs=behind)
    return model


def fixed_batch(facts: FileFacts) -> int:
    """Windows per call that a file demands: the first size of its input, 1 for an input [n_samples]; 0 = any number."""
    shape = facts.inputs[0].shape
    return max(0, shape[0]) if len(shape) > 1 else 1
