"""The `birdnet` package as a host: it takes our file for its own kind and gives our scores on a real soundscape."""

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


def ask(artifact: Path, audio: Path, *options: object) -> tuple[dict[str, np.ndarray], str]:
    """What the host gives, and what it said where it gives nothing."""
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


def test_a_model_of_48_khz_gives_our_scores_in_any_batch(on_48k, soundscape: Path, tmp_path: Path) -> None:
    run, artifact = on_48k
    wav = tmp_path / "minute.wav"
    (logits,) = outputs_of(run, at_rate(soundscape, 48_000, wav))
    assert logits.shape == (20, 5) and np.ptp(logits, axis=0).min() > 0.3  # else closeness would show nothing
    for batch in (1, 8):
        raw, said = ask(artifact, wav, "--raw", "--batch", batch)
        assert not said and str(raw["version"]) == "2.4" and raw["labels"].tolist() == LABELS
        assert np.abs(raw["scores"] - logits).max() <= tolerances.EXPORT_FP32_LOGITS
    usual, said = ask(artifact, wav, "--batch", 8)  # as its users call it: one sigmoid, and that the host's
    assert not said and np.abs(usual["scores"] - sigmoid(logits)).max() <= tolerances.EXPORT_FP32_LOGITS


def test_a_softmax_is_shown_as_it_is_by_a_host_with_a_sigmoid(soundscape: Path, tmp_path: Path) -> None:
    run, artifact = exported(tmp_path, ON_48K, soundscape.parent, multi_label=False)
    wav = tmp_path / "minute.wav"
    (logits,) = outputs_of(run, at_rate(soundscape, 48_000, wav))
    found, said = ask(artifact, wav, "--batch", 8)
    assert not said and str(found["version"]) == "2.4"
    assert np.abs(found["scores"] - softmax(logits.astype(np.float64), axis=1)).max() <= tolerances.EXPORT_FP32_LOGITS


def test_waveforms_are_scored_as_they_are(on_48k, soundscape: Path, tmp_path: Path) -> None:
    run, artifact = on_48k
    rows = read_audio(soundscape, sample_rate_hz=48_000, duration_s=9.0).waveform.reshape(3, -1)
    np.save(tmp_path / "rows.npy", rows)
    found, said = ask(artifact, tmp_path / "rows.npy", "--raw", "--batch", 3)
    assert not said
    assert np.abs(found["scores"] - outputs_of(run, rows.ravel())[0]).max() <= tolerances.EXPORT_FP32_LOGITS


def test_a_model_of_32_khz_gives_probabilities_one_at_a_time(soundscape: Path, tmp_path: Path) -> None:
    run, artifact = exported(tmp_path, ON_32K, soundscape.parent)
    wav = tmp_path / "minute.wav"
    (logits,) = outputs_of(run, at_rate(soundscape, 32_000, wav))
    for options in ([], ["--raw"]):  # the host leaves them alone either way
        found, said = ask(artifact, wav, *options)
        assert not said and str(found["version"]) == "3.0"
        assert np.abs(found["scores"] - sigmoid(logits)).max() <= tolerances.EXPORT_FP32_LOGITS
    _, said = ask(artifact, wav, "--batch", 8)
    assert "batch_size=8 is not supported" in said  # the host's own rule, whatever the file


def test_embeddings_of_1024_are_the_hosts_too(soundscape: Path, tmp_path: Path) -> None:
    run, artifact = exported(tmp_path, ON_48K, soundscape.parent, model="prototypical/v2", embeddings=True)
    wav = tmp_path / "minute.wav"
    logits, embedding = outputs_of(run, at_rate(soundscape, 48_000, wav), ("logits", "embedding"))
    found, said = ask(artifact, wav, "--raw", "--embeddings", "--batch", 8)
    assert not said and found["embeddings"].shape == (20, 1024)
    assert np.abs(found["scores"] - logits).max() <= tolerances.EXPORT_FP32_LOGITS
    assert np.abs(found["embeddings"] - embedding).max() <= tolerances.EXPORT_FP32_LOGITS
