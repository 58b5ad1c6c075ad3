"""Exported files as custom models in the `birdnet` package match the run on a real soundscape."""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tolerances
from birdnet_runs import ON_48K, at_rate, exported, outputs_of
from other_pythons import python_with
from scipy.special import softmax

from birdnet_fs.audio.read import read_audio
from birdnet_fs.export.runtimes import birdnet_host
from birdnet_fs.frontend import PRESETS
from birdnet_fs.runs.run import Run

pytestmark = [pytest.mark.slow, pytest.mark.shared]
LABELS = ["Turdus merula_Common Blackbird", "toad_toad", "Parus major_Great Tit", "Pica pica_Magpie", "rain_rain"]
ON_32K = dataclasses.replace(PRESETS["cnn_32k"], segment_s=3.0)


def run_host(artifact: Path, audio: Path, *options: object) -> tuple[dict[str, np.ndarray], str]:
    """Outputs of the package, and its error output where it fails."""
    python = python_with("birdnet", "requirements-birdnet.txt")
    labels, answers = artifact.with_name(f"{artifact.stem}_Labels.txt"), artifact.with_suffix(".answers.npz")
    answers.unlink(missing_ok=True)
    command = [python, "-I", birdnet_host.__file__, artifact, labels, audio, answers, *options]
    done = subprocess.run([str(part) for part in command], capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        return {}, done.stderr
    with np.load(answers, allow_pickle=False) as stored:
        return dict(stored), ""


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.fixture(scope="module")
def soundscape(shared_data: Path) -> Path:
    return shared_data / "audio" / "soundscape_mix_test_00.ogg"


@pytest.fixture(scope="module")
def on_48k(soundscape: Path, tmp_path_factory) -> tuple[Run, Path]:
    return exported(tmp_path_factory.mktemp("on_48k"), ON_48K, soundscape.parent)


def test_scores_at_48_khz_match_the_run_in_any_batch(on_48k, soundscape: Path, tmp_path: Path) -> None:
    run, artifact = on_48k
    wav = tmp_path / "minute.wav"
    (logits,) = outputs_of(run, at_rate(soundscape, 48_000, wav))
    assert logits.shape == (20, 5) and np.ptp(logits, axis=0).min() > 0.3  # else closeness would show nothing
    for batch in (1, 8):
        raw, error = run_host(artifact, wav, "--raw", "--batch", batch)
        assert not error and str(raw["version"]) == "2.4" and raw["labels"].tolist() == LABELS
        assert np.abs(raw["scores"] - logits).max() <= tolerances.EXPORT_FP32_LOGITS
    usual, error = run_host(artifact, wav, "--batch", 8)  # default call: one sigmoid, that of the package
    assert not error and np.abs(usual["scores"] - sigmoid(logits)).max() <= tolerances.EXPORT_FP32_LOGITS


def test_softmax_probabilities_survive_the_sigmoid_of_the_host(soundscape: Path, tmp_path: Path) -> None:
    run, artifact = exported(tmp_path, ON_48K, soundscape.parent, multi_label=False)
    wav = tmp_path / "minute.wav"
    (logits,) = outputs_of(run, at_rate(soundscape, 48_000, wav))
    found, error = run_host(artifact, wav, "--batch", 8)
    assert not error and str(found["version"]) == "2.4"
    assert np.abs(found["scores"] - softmax(logits.astype(np.float64), axis=1)).max() <= tolerances.EXPORT_FP32_LOGITS


def test_waveforms_are_scored_without_resampling(on_48k, soundscape: Path, tmp_path: Path) -> None:
    run, artifact = on_48k
    rows = read_audio(soundscape, sample_rate_hz=48_000, duration_s=9.0).waveform.reshape(3, -1)
    np.save(tmp_path / "rows.npy", rows)
    found, error = run_host(artifact, tmp_path / "rows.npy", "--raw", "--batch", 3)
    assert not error
    assert np.abs(found["scores"] - outputs_of(run, rows.ravel())[0]).max() <= tolerances.EXPORT_FP32_LOGITS


def test_probabilities_at_32_khz_match_the_run_one_segment_per_call(soundscape: Path, tmp_path: Path) -> None:
    run, artifact = exported(tmp_path, ON_32K, soundscape.parent)
    wav = tmp_path / "minute.wav"
    (logits,) = outputs_of(run, at_rate(soundscape, 32_000, wav))
    for options in ([], ["--raw"]):  # the package applies no sigmoid in either case
        found, error = run_host(artifact, wav, *options)
        assert not error and str(found["version"]) == "3.0"
        assert np.abs(found["scores"] - sigmoid(logits)).max() <= tolerances.EXPORT_FP32_LOGITS
    _, error = run_host(artifact, wav, "--batch", 8)
    assert "batch_size=8 is not supported" in error  # a rule of the package for any file


def test_embeddings_of_1024_match_the_run(soundscape: Path, tmp_path: Path) -> None:
    run, artifact = exported(tmp_path, ON_48K, soundscape.parent, model="prototypical/v2", embeddings=True)
    wav = tmp_path / "minute.wav"
    logits, embedding = outputs_of(run, at_rate(soundscape, 48_000, wav), ("logits", "embedding"))
    found, error = run_host(artifact, wav, "--raw", "--embeddings", "--batch", 8)
    assert not error and found["embeddings"].shape == (20, 1024)
    assert np.abs(found["scores"] - logits).max() <= tolerances.EXPORT_FP32_LOGITS
    assert np.abs(found["embeddings"] - embedding).max() <= tolerances.EXPORT_FP32_LOGITS
