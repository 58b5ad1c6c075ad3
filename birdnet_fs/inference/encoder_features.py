"""Input of a head on foreign encoders: the embeddings of one or several encoders for a window.

Encoders may differ in rate and window. A window of the whole has the highest rate and the longest window; for an
encoder with another rate it is resampled (soxr HQ), and one with a shorter window embeds the windows that cover it by
the rule of `data.windows`, whose embeddings are averaged.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from birdnet_fs import schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.windows import clip_rule, pad_to
from birdnet_fs.encoders.cards import EncoderCard, card_from_json
from birdnet_fs.encoders.labels import NO_CLASSES, OwnClasses, labels_file, own_classes, read_labels
from birdnet_fs.encoders.open import Encoder
from birdnet_fs.encoders.reference import EncoderReference, encoder_paths, place_of, read_encoders
from birdnet_fs.encoders.tokens import open_tokens
from birdnet_fs.inference.embedder import EmbedderFacts, WindowEmbedder, embedder_facts, open_embedder
from birdnet_fs.runs.run import Run


@dataclass(frozen=True, eq=False)
class EncoderFeatures:
    """The embeddings of windows by one or several encoders; files are opened when the first window is embedded.

    Attributes:
        facts: Name, rate, window, width and license of each encoder.
        places: File or folder of each.
        cards: Card of each, "" = found by its content.
        combine: "concatenate" or "average" (encoders of one width).
        threads: CPU threads of the runtimes; 0 = they decide.
        n_tokens: Tokens of a window, for a head that attends over them, of a single encoder; 0 = its embedding.
        own: The encoder's own scores behind the embedding, as logits, of a single encoder. Default: none.
    """

    facts: tuple[EmbedderFacts, ...]
    places: tuple[Path, ...]
    cards: tuple[EncoderCard | str, ...]
    combine: str = "concatenate"
    threads: int = 0
    own: OwnClasses = NO_CLASSES
    n_tokens: int = 0

    @property
    def sample_rate_hz(self) -> int:
        """Samples per second of the waveforms."""
        return max(each.sample_rate_hz for each in self.facts)

    @property
    def segment_s(self) -> float:
        """Length of a window in seconds."""
        return max(each.segment_s for each in self.facts)

    @property
    def n_samples(self) -> int:
        """Length of a window in samples."""
        return round(self.sample_rate_hz * self.segment_s)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the features of a window: (width,), the own scores included, or (n_tokens, width)."""
        if self.n_tokens:
            return (self.n_tokens, self.width)
        return (self.width + len(self.own.columns),)

    @property
    def width(self) -> int:
        """Number of values of the embedding, without the own scores."""
        widths = [each.width for each in self.facts]
        return sum(widths) if self.combine == "concatenate" else widths[0]

    @property
    def identity(self) -> str:
        """Text that changes when a feature does."""
        columns = ",".join(map(str, self.own.columns))
        parts = [
            self.combine,
            *(each.identity for each in self.facts),
            *([columns] if columns else []),
            *(["tokens"] if self.n_tokens else []),
        ]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    @functools.cached_property
    def embedders(self) -> tuple[WindowEmbedder, ...]:
        """The encoders, opened."""
        pairs, scores = zip(self.places, self.cards, strict=True), bool(self.own.columns)
        return tuple(open_embedder(place, card, threads=self.threads, scores=scores) for place, card in pairs)

    @functools.cached_property
    def _tokens(self) -> Encoder:
        return open_tokens(self.places[0], self.cards[0], threads=self.threads)

    def features(self, waveforms: np.ndarray) -> np.ndarray:
        """Embed windows.

        Args:
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.

        Returns:
            float32 [n, *input_shape]. A UserError of an encoder is passed on: a shape or sample that cannot be used.
        """
        if self.n_tokens:
            return self._tokens.embed(waveforms).reshape(len(waveforms), *self.input_shape)
        if self.own.columns:
            [embedder] = self.embedders
            if embedder.embed_and_score is not None:  # always: it was opened with scores
                embeddings, logits = embedder.embed_and_score(waveforms)
                return np.concatenate([embeddings, logits[:, list(self.own.columns)]], axis=1)
        found = [self._of(embedder, waveforms) for embedder in self.embedders]
        if len(found) == 1:
            return found[0]
        if self.combine == "concatenate":
            return np.concatenate(found, axis=1)
        return np.asarray(np.mean(found, axis=0, dtype=np.float32))

    def _of(self, embedder: WindowEmbedder, waveforms: np.ndarray) -> np.ndarray:
        rate = embedder.sample_rate_hz
        if (rate, embedder.segment_s) == (self.sample_rate_hz, self.segment_s):
            return embedder.embed(waveforms)
        n_samples = round(self.segment_s * rate)
        if rate != self.sample_rate_hz:
            given = soxr.resample(waveforms.T, self.sample_rate_hz, rate, quality="HQ").T
            waveforms = np.stack([pad_to(row[:n_samples], n_samples) for row in given]).astype(np.float32)
        rule = clip_rule(embedder.n_samples, rate)
        windows = [rule.cut(row) for row in waveforms]
        embedded = embedder.embed(np.concatenate(windows))
        first = np.cumsum([0, *map(len, windows)])[:-1]
        counts = np.array([len(rows) for rows in windows])
        return (np.add.reduceat(embedded.astype(np.float64), first) / counts[:, None]).astype(np.float32)


def features_of_settings(model: schema.Model, classes: Sequence[str] = (), *, threads: int = 0) -> EncoderFeatures:
    """The features that `model.encoder` describes.

    UserErrors of `embedder_facts`, `labels_file` and `read_labels` are passed on.

    Args:
        model: The settings, with `encoder`.
        classes: Our classes, which decide with `encoder_head.own_scores` which of the encoder's scores are read.
            Default: (), none are.
        threads: CPU threads of the runtimes. Default: 0, they decide.

    Returns:
        The features.

    Raises:
        UserError: There is no encoder, cards and encoders do not correspond, encoders of different widths are to be
            averaged, or own scores are asked of several encoders, of one without them, or for classes it does not have.
    """
    paths = encoder_paths(model.encoder)
    if not paths:
        raise UserError("model.encoder must be a .tflite or .onnx file, or a run folder. Received: nothing")
    cards = [card.strip() for card in model.encoder_card.split(",")] if model.encoder_card else [""] * len(paths)
    if len(cards) != len(paths):
        raise UserError(
            f"model.encoder_card must name one card for each of the {len(paths)} encoders, separated by commas "
            f"(nothing between two commas: found by content). Received: {escaped(model.encoder_card)!r}"
        )
    found = tuple(embedder_facts(path, card) for path, card in zip(paths, cards, strict=True))
    combine = model.encoder_head.combine
    if combine == "average" and len({each.width for each in found}) > 1:
        widths = ", ".join(f"{each.name} {each.width}" for each in found)
        raise UserError(
            "model.encoder_head.combine=average needs encoders of one width; use concatenate. Received: " + widths
        )
    n_tokens = _n_tokens(found) if model.head == "attentive" else 0
    own = _own_classes(found, model, classes) if classes and model.encoder_head.own_scores != "none" else NO_CLASSES
    return EncoderFeatures(found, tuple(map(Path, paths)), tuple(cards), combine, threads, own, n_tokens)


def _n_tokens(found: Sequence[EmbedderFacts]) -> int:
    """Tokens of the one encoder."""
    card = found[0].described
    if len(found) > 1 or card is None or not card.tokens:
        names = ", ".join(each.name for each in found)
        raise UserError(
            "model.head=attentive needs one encoder with tokens, an embedding for each step in time (card perch_v2); "
            f"use another head. Received: {names}"
        )
    return card.tokens[0]


def _own_classes(found: Sequence[EmbedderFacts], model: schema.Model, classes: Sequence[str]) -> OwnClasses:
    """The encoder's own scores of classes of the run."""
    key, card = f"model.encoder_head.own_scores={model.encoder_head.own_scores}", found[0].described
    if len(found) > 1 or card is None or not found[0].n_scores:
        names = ", ".join(each.name for each in found)
        raise UserError(f"{key} needs one foreign encoder with scores of its own; set it to none. Received: {names}")
    file = labels_file(Path(found[0].path), card, model.encoder_head.labels)
    labels = read_labels(file, found[0].n_scores)
    own = own_classes(labels, classes)
    if not own.columns:
        raise UserError(
            f"{key}: none of the {len(classes)} classes ({escaped(', '.join(classes[:3]))}, ...) is a class of "
            f"{escaped(card.name)} by its scientific name ({escaped(file)}); set it to none."
        )
    return own


def open_features(run: Run, *, threads: int = 0, own_scores: bool = True) -> EncoderFeatures:
    """The features that the head of a run reads; UserErrors of `read_encoders` and `place_of` are passed on.

    Args:
        run: A run on an encoder.
        threads: CPU threads of the runtimes. Default: 0, they decide.
        own_scores: Whether the encoder's own scores that the head reads are part of the features. Default: True.

    Returns:
        The features.

    Raises:
        UserError: An encoder has changed since the training.
    """
    about = read_encoders(run.path)
    stored = about.encoders
    places = tuple(place_of(run.path, each) for each in stored)
    cards = tuple(card_from_json(each.card, f"{run.path}/encoder.json") if each.card else "" for each in stored)
    found = tuple(embedder_facts(place, card) for place, card in zip(places, cards, strict=True))
    for place, now, then in zip(places, found, stored, strict=True):
        if now.identity != then.identity:
            raise UserError(
                f"{escaped(place)} is not the encoder that {escaped(run.path)} was trained on: it has changed since. "
                "Put the file of the training back, or train the head again (--overwrite)."
            )
    if not own_scores:
        about = dataclasses.replace(about, own_classes=(), own_columns=())
    own = OwnClasses(about.own_classes, about.own_columns, ())
    n_tokens = about.input_shape[0] if len(about.input_shape) == 2 else 0
    return EncoderFeatures(found, places, cards, run.experiment.model.encoder_head.combine, threads, own, n_tokens)


def references(features: EncoderFeatures) -> Sequence[EncoderReference]:
    """References to the encoders, as a run stores them."""
    return [
        EncoderReference(
            name=each.name,
            path=each.path,
            card=each.described.to_json() if each.described else {},
            identity=each.identity,
            license=each.license,
            sample_rate_hz=each.sample_rate_hz,
            segment_s=float(each.segment_s),
            width=each.width,
        )
        for each in features.facts
    ]
