"""Runs of a head on a stand-in of an encoder (foreign_encoders.py), with random weights, and their scores by hand."""

import dataclasses
from pathlib import Path

import foreign_encoders
import numpy as np
from scipy.special import softmax

from birdnet_fs import schema
from birdnet_fs.encoders.cards import EncoderCard
from birdnet_fs.encoders.inspection import FileFacts, Tensor
from birdnet_fs.encoders.open import normalized
from birdnet_fs.encoders.reference import RunEncoders, write_encoders
from birdnet_fs.inference.encoder_features import features_of_settings, references
from birdnet_fs.inference.encoder_settings import with_encoder
from birdnet_fs.runs.run import WEIGHTS, Run, build_network, model_weights, save_run
from birdnet_fs.runs.tensors import read_weights

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit")
OWN_CLASSES, OWN_COLUMNS = ("Turdus merula", "Parus major_Great Tit"), (40, 3)  # of an encoder that has both
TFLITE = EncoderCard("small", "A small one", ("tflite",), 16_000, 0.2, 24, "before_last_dense", license="CC BY-NC 4.0")
ONNX = dataclasses.replace(TFLITE, formats=("onnx",), embedding="embedding")


def peaked(card: EncoderCard) -> EncoderCard:
    """The card with each window scaled to a peak of 0.25."""
    return dataclasses.replace(card, name=f"{card.name}_peak", normalization="peak_0.25")


def facts_of(card: EncoderCard) -> FileFacts:
    """A file without content that takes the windows of a card, any number per call."""
    return FileFacts(Path("small"), "tflite", "", (Tensor("waveform", (-1, card.n_samples)),), ())


def windows(n: int, n_samples: int) -> np.ndarray:
    """Slow sines of different levels, some far from zero, and a constant window, float32 [n, n_samples]."""
    random = np.random.default_rng(4)
    phase = np.linspace(0, 9, n_samples) * random.uniform(0.3, 1, (n, 1))
    level, offset = 10.0 ** random.uniform(-3, -0.5, (n, 1)), random.choice([0, 0.4], (n, 1))
    rows = level * np.sin(phase) + offset + 0.01 * level * random.standard_normal((n, n_samples))
    rows[1] = 0.1
    return rows.astype(np.float32)


def make_run(
    folder: Path,
    encoder: Path | str,
    card: str = "",
    *,
    head: str = "linear",
    multi_label: bool = True,
    classes: tuple[str, ...] = CLASSES,
    **own: object,
) -> Run:
    """A run of a head on the square root of the embeddings of encoders, separated by commas as their cards are."""
    settings = schema.EncoderHead(transform="sqrt", **own)
    model = schema.Model(encoder=str(encoder), encoder_card=card, head=head, encoder_head=settings)
    data = schema.Data(root="gone", multi_label=multi_label)
    experiment = with_encoder(schema.Experiment(name="small_head", model=model, data=data))
    features = features_of_settings(experiment.model, classes)
    random = np.random.default_rng(3)
    weights = model_weights(build_network(experiment, len(classes), features.input_shape, len(features.own.columns)))
    for name, value in weights.items():
        values = random.normal(0, 1, value.shape)
        if name.endswith("/scale"):
            values = random.uniform(0.5, 1.5, value.shape)
        elif name.endswith("/center"):
            values = random.uniform(0, 0.3, value.shape)
        elif name == "logits/kernel":
            values *= 3 / value.shape[0] ** 0.5
        weights[name] = values.astype(np.float32)
    own_classes = features.own.names, features.own.columns
    about = RunEncoders(tuple(references(features)), features.input_shape, *own_classes)
    return save_run(folder, experiment, classes, weights, write_extra=lambda part: write_encoders(part, about))


def write_labels(folder: Path, n_scores: int) -> Path:
    """A file of labels of an encoder with the classes of the runs, the last one first, among n_scores classes."""
    names = [f"Genus species{number}" for number in range(n_scores)]
    for place, name in zip(OWN_COLUMNS, OWN_CLASSES, strict=True):
        names[place] = name
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return folder / "labels.txt"


def scores(
    run: Run, card: EncoderCard, waveforms: np.ndarray, own: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a linear head, and transformed embeddings, in float64 by the formulas of stand-in, card and head.

    With `own`, float64 [n, 2], the logits of OWN_CLASSES by the encoder itself, of a head that reads them.
    """
    weights = {name: value.astype(np.float64) for name, value in read_weights(run.path / WEIGHTS).items()}
    embeddings = foreign_encoders.embedding(normalized(waveforms, card.normalization), card.width)
    transformed = (np.sqrt(embeddings) - weights["embedding/center"]) * weights["embedding/scale"]
    read = transformed if own is None else np.concatenate([transformed, own], axis=1)
    return read @ weights["logits/kernel"] + weights["logits/bias"], transformed


def scores_of_tokens(run: Run, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of the head "attentive", and pooled tokens, in float64 by its formulas: tokens [n, n_tokens, width]."""
    weights = {name: value.astype(np.float64) for name, value in read_weights(run.path / WEIGHTS).items()}
    x = (np.sqrt(tokens) - weights["tokens/center"]) * weights["tokens/scale"]
    attention = softmax(x @ weights["embedding/queries"] * 32 / x.shape[2] ** 0.5, axis=1)
    pooled = np.einsum("ntq,ntw->nqw", attention, x).reshape(len(x), -1)
    return pooled @ weights["logits/kernel"] + weights["logits/bias"], pooled
