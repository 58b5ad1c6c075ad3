"""Windows that a gate holds back give no detections."""

import csv

import numpy as np
import pytest
import soundfile
from level_model import RATE, LevelModel

from birdnet_fs.analysis.analyze import analyze


class LevelGate:
    """Passes windows that are louder than a threshold, at a sample rate of its own."""

    def __init__(self, sample_rate_hz=8_000, threshold=0.1, identity="gate 1", window_s=1.0):
        self.sample_rate_hz, self.threshold, self.identity = sample_rate_hz, threshold, identity
        self.lengths, self.window_s = [], window_s

    def probabilities(self, waveforms):
        self.lengths.append(waveforms.shape[1])
        return waveforms.std(axis=1).astype(np.float64)


def tones(path, levels):
    """One second of a tone for each level, which is its standard deviation."""
    wave = np.sqrt(2) * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    soundfile.write(path, np.concatenate([level * wave for level in levels]), RATE, subtype="PCM_16")


def starts(folder):
    with open(folder / "a.BirdNET.results.csv", encoding="utf-8", newline="") as file:
        return [float(row["Start (s)"]) for row in csv.DictReader(file)]


def test_shorter_windows_pass_with_a_longer_one_of_the_gate_that_ends_with_the_recording(tmp_path):
    levels = [0.3, 0.3, 0.3, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.3, 0.3, 0.3]
    tones(tmp_path / "a.wav", levels)
    gate = LevelGate(threshold=0.25, window_s=3.0)
    options = {"min_confidence": 0.0, "top_n": 1, "batch_size": 2}
    analyze(LevelModel().engine, [tmp_path / "a.wav"], tmp_path / "out", gate=gate, **options)
    # windows of the gate begin at 0, 1.5, 3, ... 7.5 and, unpadded, at 9 s; those at 0 and 9 are loud
    assert starts(tmp_path / "out") == [0.0, 1.0, 2.0, 9.0, 10.0, 11.0]
    assert set(gate.lengths) == {3 * RATE}


@pytest.mark.parametrize("rate", [8_000, 16_000])
def test_quiet_windows_give_no_detections(tmp_path, rate):
    tones(tmp_path / "a.wav", [0.2, 0.05, 0.2, 0.02, 0.3])
    model, gate = LevelModel(), LevelGate(rate)
    options = {"min_confidence": 0.0, "top_n": 1, "batch_size": 2}
    analyze(model.engine, [tmp_path / "a.wav"], tmp_path / "out", gate=gate, **options)
    assert starts(tmp_path / "out") == [0.0, 2.0, 4.0]
    assert model.n_windows == 3 and set(gate.lengths) == {rate}
    analyze(LevelModel().engine, [tmp_path / "a.wav"], tmp_path / "all", **options)
    assert starts(tmp_path / "all") == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_another_gate_or_threshold_analyzes_again_and_none_is_as_before(tmp_path):
    tones(tmp_path / "a.wav", [0.2, 0.05])
    out, options = tmp_path / "out", {"min_confidence": 0.0, "top_n": 1}
    seen = []
    for gate in (None, None, LevelGate(), LevelGate(), LevelGate(threshold=0.01), LevelGate(identity="gate 2"), None):
        model = LevelModel()
        analyze(model.engine, [tmp_path / "a.wav"], out, gate=gate, **options)
        seen.append((model.n_windows, len(starts(out))))
    assert seen == [(2, 2), (0, 2), (1, 1), (0, 1), (2, 2), (1, 1), (2, 2)]
