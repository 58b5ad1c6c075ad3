"""Embeddings of example recordings, by the encoder that a store was made with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from birdnet_fs.audio.read import AudioError, read_audio
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.windows import clip_rule
from birdnet_fs.inference.embedder import WindowEmbedder, open_embedder
from birdnet_fs.search.label_selection import ClassScores
from birdnet_fs.search.neighbors import TINY, unit_queries
from birdnet_fs.search.store import Store, StoreHeader


def embed_examples(
    header: StoreHeader, examples: Sequence[Path | str], *, encoder: Path | None = None, threads: int = 0
) -> np.ndarray:
    """Embed examples: one query per example, the mean over the windows that cover it.

    Args:
        header: Header of the store.
        examples: Recordings.
        encoder: The encoder. Default: None, at the path that the store names.
        threads: CPU threads of the encoder, 1 or more. Default: 0, the runtime decides.

    Returns:
        float32 [n_examples, width].

    Raises:
        UserError: The encoder is gone or another one than that of the store, or an example cannot be read.
    """
    embedder = open_store_encoder(header, encoder=encoder, threads=threads)
    rule = clip_rule(embedder.n_samples, embedder.sample_rate_hz)
    rows = []
    for example in examples:
        try:
            waveform = read_audio(example, sample_rate_hz=embedder.sample_rate_hz).waveform
        except AudioError as error:
            raise UserError(f"The example {escaped(example)} cannot be used: {error.reason}") from None
        rows.append(embedder.embed(rule.cut(waveform)).mean(axis=0))
    return np.stack(rows)


def example_scores(store: Store, queries: np.ndarray, names: Sequence[str]) -> ClassScores:
    """Similarities with examples as scores, one column for each; a UserError of `unit_queries` is passed on.

    Args:
        store: The store.
        queries: float32 [n_examples, width], from `embed_examples`.
        names: Names of the examples.

    Returns:
        Cosine similarities, computed when they are asked for.
    """
    unit = unit_queries(store, queries)

    def score(embeddings: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        return np.asarray(embeddings @ unit.T / np.maximum(lengths, TINY))

    return ClassScores(tuple(names), score)


def open_store_encoder(header: StoreHeader, *, encoder: Path | None = None, threads: int = 0) -> WindowEmbedder:
    """Open the encoder of a store and check that it is the same.

    Args:
        header: Header of the store.
        encoder: The encoder. Default: None, at the path that the store names.
        threads: CPU threads, 1 or more. Default: 0, the runtime decides.

    Returns:
        The embedder.

    Raises:
        UserError: There is no file at the path, or it is another encoder.
    """
    if not header.identity:
        raise UserError("This database does not name its encoder; give the file that it was made with: --encoder FILE.")
    path = Path(header.path) if encoder is None else encoder
    if not path.exists():
        raise UserError(
            f"The encoder {escaped(header.encoder)} of this store is no longer at {escaped(path)}; name it with "
            "--encoder FILE."
        )
    found = open_embedder(path, header.card, threads=threads)
    if found.identity != header.identity:
        raise UserError(
            f"The store was made with another encoder or version of it ({escaped(header.encoder)}) than "
            f"{escaped(path)}, so that their embeddings cannot be compared; name the right one with --encoder FILE, or "
            "embed the recordings again."
        )
    return found
