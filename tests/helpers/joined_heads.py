"""Runs of a head on a stand-in of an encoder (foreign_encoders.py), with random weights, and their scores by hand."""

import dataclasses
from pathlib import Path

import foreign_encoders
import numpy as np

from birdnet_fs import schema
from birdnet_fs.encoders.cards import EncoderCard
from birdnet_fs.encoders.open import normalized
from birdnet_fs.encoders.reference import RunEncoders, write_encoders
from birdnet_fs.inference.encoder_features import features_of_settings, references
from birdnet_fs.inference.encoder_settings import with_encoder
from birdnet_fs.runs.run import WEIGHTS, Run, build_network, model_weights, save_run
from birdnet_fs.runs.tensors import read_weights

CLASSES = ("Turdus merula_Common Blackbird", "toad", "Parus major_Great Tit")
TFLITE = EncoderCard("small", "A small one", ("tflite",), 16_000, 0.2, 24, "before_last_dense", license="CC BY-NC 4.0")
ONNX = dataclasses.replace(TFLITE, formats=("onnx",), embedding="embedding")


def peaked(card: EncoderCard) -> EncoderCard:
    """The card with each window scaled to a peak of 0.25."""
    return dataclasses.replace(card, name=f"{card.name}_peak", normalization="peak_0.25")


def windows(n: int, n_samples: int) -> np.ndarray:
    """Slow sines of different levels, some far from zero, and a constant window, float32 [n, n_samples]."""
    random = np.random.default_rng(4)
    phase = np.linspace(0, 9, n_samples) * random.uniform(0.3, 1, (n, 1))
    level, offset = 10.0 ** random.uniform(-3, -0.5, (n, 1)), random.choice([0, 0.4], (n, 1))
    rows = level * np.sin(phase) + offset + 0.01 * level * random.standard_normal((n, n_samples))
    rows[1] = 0.1
    return rows.astype(np.float32)


def make_run(
    folder: Path, encoder: Path | str, card: str = "", *, head: str = "linear", multi_label: bool = True, **own: object
) -> Run:
    """A run of a head on the square root of the embeddings of encoders, separated by commas as their cards are."""
    settings = schema.EncoderHead(transform="sqrt", **own)
    model = schema.Model(encoder=str(encoder), encoder_card=card, head=head, encoder_head=settings)
    data = schema.Data(root="gone", multi_label=multi_label)
    experiment = with_encoder(schema.Experiment(name="small_head", model=model, data=data))
    features = features_of_settings(experiment.model)
    width, random = features.input_shape[0], np.random.default_rng(3)
    weights = model_weights(build_network(experiment, len(CLASSES), features.input_shape))
    for name, value in weights.items():
        values = random.normal(0, 1, value.shape)
        if name == "embedding/scale":
            values = random.uniform(0.5, 1.5, value.shape)
        elif name == "embedding/center":
            values = random.uniform(0, 0.3, value.shape)
        elif name == "logits/kernel":
            values *= 3 / width**0.5
        weights[name] = values.astype(np.float32)
    about = RunEncoders(tuple(references(features)), features.input_shape)
    return save_run(folder, experiment, CLASSES, weights, write_extra=lambda part: write_encoders(part, about))


def scores(run: Run, card: EncoderCard, waveforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a linear head, and transformed embeddings, in float64 by the formulas of stand-in, card and head."""
    weights = {name: value.astype(np.float64) for name, value in read_weights(run.path / WEIGHTS).items()}
    embeddings = foreign_encoders.embedding(normalized(waveforms, card.normalization), card.width)
    transformed = (np.sqrt(embeddings) - weights["embedding/center"]) * weights["embedding/scale"]
    return transformed @ weights["logits/kernel"] + weights["logits/bias"], transformed
