"""A small encoder with a card of its own, recordings, and their embeddings in NumPy."""

import json
from pathlib import Path

import foreign_encoders
import numpy as np
import soundfile

from birdnet_fs.search.store import EmbeddedRecording, Store, StoreHeader
from birdnet_fs.search.write_store import create_store, write_part

RATE_HZ, SEGMENT_S, WIDTH = 16_000, 0.2, 24
N_SAMPLES = 3200


def write_encoder(folder: Path) -> tuple[Path, Path]:
    """(file, card) of an ONNX encoder for windows of 0.2 s at 16 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    file = foreign_encoders.write_onnx(folder / "small.onnx", N_SAMPLES, WIDTH, outputs=("label:y", "embedding:x"))
    card = folder / "small.json"
    about = {"name": "small", "title": "Small", "formats": ["onnx"], "license": "CC0", "embedding": "x"}
    card.write_text(
        json.dumps({**about, "sample_rate_hz": RATE_HZ, "segment_s": SEGMENT_S, "width": WIDTH}), encoding="utf-8"
    )
    return file, card


def write_recordings(folder: Path, n: int, *, seconds: float = 1.1) -> dict[str, np.ndarray]:
    """Noise with an offset that differs between windows, as 16-bit WAV; the waveforms by file name."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for index in range(n):
        rng = np.random.default_rng(index)
        level = np.repeat(rng.uniform(-0.3, 0.3, 20), round(seconds * RATE_HZ) // 20)
        integers = np.round((level + 0.05 * rng.normal(size=len(level))) * 32767).astype(np.int16)
        soundfile.write(folder / f"r{index:02d}.wav", integers, RATE_HZ)
        found[f"r{index:02d}.wav"] = integers.astype(np.float32) / 32768
    return found


def embeddings(waveform: np.ndarray) -> np.ndarray:
    """Embeddings in float64 of the windows of a recording, cut by hand: whole windows, then a rest of .1 s or more."""
    windows = [waveform[i : i + N_SAMPLES] for i in range(0, len(waveform), N_SAMPLES)]
    windows = [w for w in windows if len(w) >= N_SAMPLES // 2]
    padded = np.stack([np.pad(w, (0, N_SAMPLES - len(w))) for w in windows])
    return foreign_encoders.embedding(padded, WIDTH)


STORE_HEADER = StoreHeader("small", "/e.onnx", "", "abc", "CC0", 16_000, 0.2, 0.2, 3, "float32")


def recording(name, n_windows):
    return EmbeddedRecording(name, "ok", "", (), 0.2 * n_windows, 10, 20, "", "", n_windows)


def add_part(folder, name, rows):
    with write_part(folder, STORE_HEADER) as writer:
        writer.append(np.asarray(rows, np.float32))
        writer.end_recording(recording(name, len(rows)), [(0.2 * i, 0.2 * i + 0.2) for i in range(len(rows))])


def two_parts(folder):
    """A store of two parts: two windows of a.wav, and one of a recording with an odd name."""
    create_store(folder, STORE_HEADER)
    add_part(folder, "a.wav", [[1, 2, 3], [4, 5, 6]])
    add_part(folder, "b/ü\n.wav", [[7, 8, 9]])
    return folder


def store_of(rows):
    """A store in memory: one recording with windows of 3 s that follow each other."""
    rows = np.asarray(rows, np.float32)
    n, width = rows.shape
    header = StoreHeader("small", "", "", "", "", 16_000, 3.0, 3.0, width, "float32")
    recording = EmbeddedRecording("a.wav", "ok", "", (), 3.0 * n, 1, 1, "", "", n)
    start_s = 3.0 * np.arange(n)
    blocks = (rows[: n // 2], rows[n // 2 :])
    norms = np.linalg.norm(rows, axis=1)
    return Store(None, header, (recording,), np.zeros(n, np.int32), start_s, start_s + 3, blocks, norms)
