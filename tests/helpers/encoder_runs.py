"""A small ONNX encoder, recordings of three kinds that its embeddings tell apart, and experiments with a head on it.

The encoder is a fixed random projection (foreign_encoders.py); a recording holds the repeated pattern of its kind and
noise, so that its windows have similar embeddings.
"""

import csv
import json
from pathlib import Path

import foreign_encoders
import numpy as np
import soundfile

from birdnet_fs import schema
from birdnet_fs.inference.encoder_settings import with_encoder

RATE_HZ, SEGMENT_S, WIDTH = 16_000, 0.2, 24
N_SAMPLES = 3200
KINDS = ("owl", "tit", "wren")


def write_encoder(folder: Path, name: str = "small") -> tuple[Path, Path]:
    """(file, card) of an encoder for windows of 0.2 s at 16 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    file = foreign_encoders.write_onnx(folder / f"{name}.onnx", N_SAMPLES, WIDTH, outputs=("label:y", "embedding:x"))
    card = folder / f"{name}.json"
    about = {"name": name, "title": "Small", "formats": ["onnx"], "license": "CC0", "embedding": "x"}
    card.write_text(
        json.dumps({**about, "sample_rate_hz": RATE_HZ, "segment_s": SEGMENT_S, "width": WIDTH}), encoding="utf-8"
    )
    return file, card


def write_recordings(folder: Path, per_kind: int = 6, *, seconds: float = 0.7, seed: int = 0) -> Path:
    """A folder for each kind with recordings; the last of "tit" also exists as a text file that is no audio."""
    rng = np.random.default_rng(seed)
    # the encoder averages pieces of 100 samples; the pattern of a kind repeats in every hop of half a window
    levels = np.random.default_rng(99).uniform(-1, 1, size=(len(KINDS), N_SAMPLES // 200))
    patterns = np.repeat(levels, 100, axis=1)
    for kind, pattern in zip(KINDS, patterns, strict=True):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(per_kind):
            waveform = np.resize(pattern, round(seconds * RATE_HZ)) + 2 * rng.normal(size=round(seconds * RATE_HZ))
            soundfile.write(folder / kind / f"{kind}{number}.wav", (waveform / 8).clip(-1, 1), RATE_HZ)
    return folder


def broken(folder: Path) -> Path:
    """A file that is no audio, in the folder of "tit"."""
    path = folder / "tit" / "broken.wav"
    path.write_bytes(b"no audio at all")
    return path


def experiment(file: Path, card: Path, root: Path, *, head: str = "linear", **data: object) -> schema.Experiment:
    """A head on the encoder, in two folds."""
    return with_encoder(
        schema.Experiment(
            name="small_head",
            data=schema.Data(root=str(root), n_folds=2, **data),
            model=schema.Model(encoder=str(file), encoder_card=str(card), head=head),
        )
    )


def as_table(root: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with open(root, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
