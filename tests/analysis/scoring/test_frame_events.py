"""Events from frames, against a loop over frames, and their times in the tables of a network with known frames."""

import csv
import dataclasses

import numpy as np
import pytest
import soundfile
import tolerances
import torch
from level_model import CLASSES, LevelModel, square
from run_to_export import CLASSES as NAMES
from run_to_export import SPEC

from birdnet_fs import models, schema
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.options import EventOptions
from birdnet_fs.analysis.scoring.frame_events import frame_events, frames_in_order
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.in_numpy import log_mel, network_input
from birdnet_fs.inference.open import open_engine
from birdnet_fs.runs.run import build_network, model_weights, save_run


def by_hand(column, high, low):
    """Runs of frames above `low` that hold one above `high`, frame by frame."""
    found, first = [], None
    for frame, value in enumerate([*column, 0.0]):
        if value >= low and first is None:
            first = frame
        if value < low and first is not None:
            if max(column[first:frame]) >= high:
                found.append((first, frame - 1, max(column[first:frame])))
            first = None
    return found


@pytest.mark.parametrize("seed", range(5))
def test_events_are_runs_above_two_thresholds(seed):
    frames = np.random.default_rng(seed).random((200, 3)).astype(np.float32) ** 2
    found = frame_events(frames, high=0.8, low=0.3, classes=[0, 2])
    for index in (0, 2):
        expected = by_hand(frames[:, index].tolist(), np.float32(0.8), np.float32(0.3))
        assert [(*each[:2], each.confidence) for each in found if each.class_index == index] == expected
    assert found == sorted(found, key=lambda each: (each.first, -each.confidence, each.class_index))
    assert not [each for each in found if each.class_index == 1]


def test_the_median_filter_removes_single_frames():
    frames = np.array([0.1, 0.9, 0.1, 0.1, 0.9, 0.8, 0.9, 0.1], np.float32)[:, None]
    assert [each[:2] for each in frame_events(frames, high=0.7, low=0.5, classes=[0])] == [(1, 1), (4, 6)]
    assert [each[:2] for each in frame_events(frames, high=0.7, low=0.5, classes=[0], median=3)] == [(4, 6)]


def test_frames_of_overlapping_windows_are_averaged():
    starts, scores = np.array([0.0, 1.0, 2.0]), np.random.default_rng(0).random((3, 4, 2)).astype(np.float32)
    frames, step_s = frames_in_order(scores, starts, 2.0, 3.75)
    total, count = np.zeros((8, 2)), np.zeros(8)
    for start, window in zip(starts, scores, strict=True):
        for step, row in enumerate(window):
            total[round(start / 0.5) + step] += row
            count[round(start / 0.5) + step] += 1
    assert step_s == 0.5 and len(frames) == 8  # the last one ends behind the recording
    np.testing.assert_allclose(frames, total / count[:, None], rtol=1e-6)


def engine_with_frames():
    """Frames of a quarter of a second, whose probability is 0.5 at a level of 0.1."""

    def frames(waveforms):
        quarters = waveforms.reshape(len(waveforms), 4, -1).astype(np.float64).std(axis=2)
        return np.repeat((60 * quarters - 6)[..., None], len(CLASSES), axis=2).astype(np.float32)

    return dataclasses.replace(LevelModel().engine, frames=frames)


def test_tables_hold_onset_and_offset_of_events(tmp_path):
    rate, levels = 8_000, [0, 0, 0.1, 0.2, 0.15, 0, 0, 0.05, 0.1, 0, 0, 0.2]
    quarters = np.concatenate([np.tile([level, -level], rate // 8) for level in levels])
    soundfile.write(tmp_path / "a.wav", quarters, rate, subtype="PCM_16")
    events = {"events": EventOptions(), "min_confidence": 0.9, "species": [CLASSES[2]]}
    analyze(engine_with_frames(), [tmp_path / "a.wav"], tmp_path / "out", **events)
    with open(tmp_path / "out" / "a.BirdNET.results.csv", encoding="utf-8", newline="") as file:
        rows = [(float(row["Start (s)"]), float(row["End (s)"])) for row in csv.DictReader(file)]
    assert rows == [(0.5, 1.25), (2.75, 3.0)]  # 0.45 keeps levels of 0.1 and more beside one of 0.2


class LoudWindows:
    """Gate that passes windows with a standard deviation of 0.1 or more."""

    sample_rate_hz, window_s, threshold, identity = 8_000, 1.0, 0.1, "loud"

    def probabilities(self, waveforms):
        return waveforms.std(axis=1)


@pytest.mark.parametrize("levels", [[0.01, 0.02, 0.2, 0.01], [0.2, 0.2, 0.01, 0.01], [0.02] * 4])
def test_windows_that_a_gate_holds_back_have_no_events(tmp_path, levels):
    square(tmp_path / "a.wav", levels)
    given = {"events": EventOptions(), "min_confidence": 0.3, "species": [CLASSES[2]], "gate": LoudWindows()}
    analyze(engine_with_frames(), [tmp_path / "a.wav"], tmp_path / "out", batch_size=2, **given)
    with open(tmp_path / "out" / "a.BirdNET.results.csv", encoding="utf-8", newline="") as file:
        rows = [(float(row["Start (s)"]), float(row["End (s)"])) for row in csv.DictReader(file)]
    loud = [second for second, level in enumerate(levels) if level >= 0.1]
    assert rows == ([(loud[0], loud[-1] + 1)] if loud else [])


def test_events_are_refused_where_they_mean_nothing(tmp_path):
    square(tmp_path / "a.wav", [0.1])
    for engine, settings, words in (
        (LevelModel().engine, {}, "a run with model.head=sed"),
        (engine_with_frames(), {"top_n": 3}, "top_n is for windows"),
        (engine_with_frames(), {"grid_s": 5.0}, "grid is for windows"),
        (engine_with_frames(), {"events": EventOptions(low=0.9)}, "event_low must be above 0 and at most"),
        (engine_with_frames(), {"events": EventOptions(median_s=-1.0)}, "event_median must be 0 or more"),
    ):
        with pytest.raises(UserError, match=words):
            analyze(engine, [tmp_path / "a.wav"], tmp_path / "out", **{"events": EventOptions(), **settings})


@pytest.mark.slow
def test_frames_of_a_run_are_those_of_its_layer(tmp_path):
    model = schema.Model(name="cnn/tiny", head="sed")
    experiment = schema.Experiment(name="small", frontend=SPEC, model=model)
    run = save_run(tmp_path / "run", experiment, NAMES, model_weights(build_network(experiment, len(NAMES))))
    waveforms = np.random.default_rng(0).normal(0, 0.1, (2, SPEC.n_samples)).astype(np.float32)
    layer = models.with_outputs(run.build_model(), ["frame_logits"])
    with torch.no_grad():
        features = torch.from_numpy(network_input(log_mel(waveforms, SPEC), SPEC))
        expected = layer(features, training=False).numpy()
    engine = open_engine(tmp_path / "run", threads=1)
    np.testing.assert_allclose(engine.frames(waveforms), expected, atol=tolerances.ENGINE_LOGITS)
    found = engine.frame_probabilities(waveforms)
    assert found.shape == expected.shape and expected.shape[1] > 1
    np.testing.assert_allclose(found.sum(axis=2), 1, rtol=tolerances.ACTIVATION)
