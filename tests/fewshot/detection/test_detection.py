"""Few-shot detection: frames against librosa, correlations pair by pair, synthetic recordings, and tables of labels."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tolerances
import uncompiled_librosa as librosa

from birdnet_fs.core.errors import UserError
from birdnet_fs.fewshot.detection import frames as frames_module
from birdnet_fs.fewshot.detection.batch import detect_in_recordings
from birdnet_fs.fewshot.detection.detector import DetectionSettings, detect_events, pick_windows
from birdnet_fs.fewshot.detection.frames import N_BANDS, compute_frames, frame_frontend
from birdnet_fs.fewshot.detection.windows import cut_windows
from birdnet_fs.metrics.event_f1 import count_events
from birdnet_fs.schema import Data

RATE = 32_000
NONE = np.empty((0, 2))


def chirp(start_hz: float, end_hz: float, length_s: float = 0.2) -> np.ndarray:
    t = np.arange(round(length_s * RATE)) / RATE
    phase = 2 * np.pi * (start_hz * t + (end_hz - start_hz) * t**2 / (2 * length_s))
    return 0.1 * np.hanning(len(t)) * np.sin(phase)


def recording(seed: int, duration_s: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """Rising chirps every 1.5 s or so, which are the events, falling ones and tones between them, and noise."""
    rng = np.random.default_rng(seed)
    waveform = 0.003 * rng.standard_normal(round(duration_s * RATE))
    events = []
    for place in np.arange(0.5, duration_s - 1.5, 1.5):
        for offset_s, sound in (
            (0.0, chirp(3000, 5000)),
            (0.5, chirp(5000, 3000)),
            (1.0, chirp(4000, 4000)),
        ):
            start = place + offset_s + rng.uniform(0, 0.2)
            first = round(start * RATE)
            waveform[first : first + len(sound)] += rng.uniform(0.3, 1.0) * sound
            if offset_s == 0.0:
                events.append((start, start + 0.2))
    return waveform.astype(np.float32), np.array(events)


def frames_of(waveform: np.ndarray, event_s: float = 0.2) -> frames_module.Frames:
    spec = frame_frontend(event_s, sample_rate_hz=RATE, fmin_hz=200.0, fmax_hz=15_000.0)
    return compute_frames(waveform, spec)


def test_frames_are_those_of_librosa_whatever_the_block(monkeypatch) -> None:
    waveform, _ = recording(0, 7.0)
    spec = frame_frontend(0.2, sample_rate_hz=RATE, fmin_hz=200.0, fmax_hz=15_000.0)
    power = librosa.feature.melspectrogram(
        y=waveform.astype(np.float64),
        sr=RATE,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=N_BANDS,
        fmin=200.0,
        fmax=15_000.0,
        pad_mode=spec.pad_mode,
    ).T
    expected = np.log1p(power / np.median(power, axis=0))
    whole = compute_frames(waveform, spec)
    assert whole.hop_s == pytest.approx(0.02)
    np.testing.assert_allclose(whole.values, expected, atol=tolerances.DETECTION_FRAMES)
    monkeypatch.setattr(frames_module, "BLOCK_S", 0.9)
    assert np.array_equal(compute_frames(waveform, spec).values, whole.values)


def test_correlations_are_those_of_numpy_and_an_example_is_not_compared_with_itself() -> None:
    waveform, events = recording(1, 12.0)
    frames = frames_of(waveform)
    windows = cut_windows(frames, events[:3])
    n = windows.n_frames
    assert n == 10 and len(windows) == len(frames.values) - n + 1
    rows = [frames.values[i : i + n].T.ravel().astype(float) for i in (0, 40, int(windows.shots[1]))]
    for i, row in zip((0, 40, int(windows.shots[1])), rows, strict=True):
        for shot, start in enumerate(windows.shots):
            other = frames.values[start : start + n].T.ravel().astype(float)
            expected = np.corrcoef(row, other)[0, 1]
            assert windows.correlations[i, shot] == pytest.approx(expected, abs=tolerances.CORRELATION)
    own = windows.similar(windows.shots, np.arange(3))
    others = windows.correlations[windows.shots][~np.eye(3, dtype=bool)].reshape(3, 2)
    np.testing.assert_array_equal(own[:, :2], np.sort(others, axis=1)[:, ::-1])
    np.testing.assert_allclose(own[:, 2], others.mean(axis=1), rtol=1e-6)
    assert windows.similar(windows.shots)[:, 0] == pytest.approx(1.0, abs=tolerances.CORRELATION)


def test_chosen_windows_are_the_highest_that_do_not_overlap() -> None:
    scores = np.random.default_rng(2).random(300)
    for n_frames in (1, 4, 17):
        left, expected = dict(enumerate(scores)), []
        while left and max(left.values()) >= 0.4:
            best = max(left, key=left.__getitem__)
            expected.append(best)
            left = {i: s for i, s in left.items() if abs(i - best) >= n_frames}
        assert pick_windows(scores, n_frames, 0.4).tolist() == sorted(expected)


def test_two_examples_give_no_false_detection() -> None:
    waveform, events = recording(3)
    found = detect_events(frames_of(waveform), events[:2], NONE, DetectionSettings(n_shots=2))
    counts = count_events(events, found.times, n_shots=2)
    assert counts.true_positive and not counts.false_positive


@pytest.mark.parametrize("rounds", [0, 1])
def test_rising_chirps_are_separated_from_falling_ones_and_tones(rounds) -> None:
    n_shots = 5
    waveform, events = recording(3)
    settings = DetectionSettings(rounds=rounds)
    found = detect_events(frames_of(waveform), events[:n_shots], NONE, settings)
    counts = count_events(events, found.times, n_shots=n_shots)
    assert counts.true_positive == len(events) - n_shots and counts.false_positive <= 1
    assert (found.times[:, 0] >= events[n_shots - 1, 1]).all()
    assert (np.diff(found.times[:, 0]) >= 0.2 - 1e-9).all() and (found.probabilities >= 0.5).all()
    again = detect_events(frames_of(waveform), events[:n_shots], NONE, settings)
    assert np.array_equal(again.times, found.times) and np.array_equal(again.probabilities, found.probabilities)


def test_gain_of_the_recorder_has_no_influence() -> None:
    waveform, events = recording(4, 20.0)
    loud, quiet = (
        detect_events(frames_of(np.float32(gain) * waveform), events[:5], NONE, DetectionSettings())
        for gain in (1.0, 2.0**-7)
    )
    assert np.array_equal(loud.times, quiet.times) and len(loud.times) > 5


def write_table(folder: Path, name: str, rows: list[tuple[float, float, str, str]]) -> None:
    with open(folder / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Audiofilename", "Starttime", "Endtime", "rising", "falling"])
        writer.writerows([f"{name}.wav", a, b, *labels] for a, b, *labels in rows)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """good: with events after the examples, one of them unsure; shots: with examples alone; few, silent and broken."""
    for name, seed in (("good", 5), ("shots", 6), ("few", 7)):
        waveform, events = recording(seed, 20.0)
        soundfile.write(tmp_path / f"{name}.wav", waveform, RATE, subtype="FLOAT")
        rows = [(a, b, "POS", "NEG") for a, b in events[: {"good": None, "shots": 5, "few": 4}[name]]]
        if name == "good":
            rows[-1] = (*rows[-1][:2], "UNK", "NEG")
        write_table(tmp_path, name, rows)
    five = [(i + 0.5, i + 0.7, "POS", "NEG") for i in range(5)]
    soundfile.write(tmp_path / "silent.wav", np.zeros(10 * RATE), RATE)
    write_table(tmp_path, "silent", five)
    (tmp_path / "broken.wav").write_bytes(b"RIFF....WAVEnothing")
    write_table(tmp_path, "broken", five)
    return tmp_path


def test_every_recording_of_a_folder_is_detected_or_in_the_ledger(folder) -> None:
    output = folder / "out" / "found.csv"
    output.parent.mkdir()
    found = detect_in_recordings(Data(root=str(folder), multi_label=True), output, DetectionSettings())
    assert [(each.path.stem, each.label) for each in found.found] == [("good", "rising"), ("shots", "rising")]
    with open(output, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["Audiofilename"] for row in rows} == {"good.wav", "shots.wav"}
    assert {row["Class"] for row in rows} == {"rising"}
    detected = [(float(r["Starttime"]), float(r["Endtime"])) for r in rows if r["Audiofilename"] == "good.wav"]
    _, events = recording(5, 20.0)
    counts = count_events(events[:-1], detected, events[-1:])
    assert counts.true_positive == len(events) - 6 and counts.false_positive <= 1
    scores = json.loads(output.with_suffix(".scores.json").read_text())
    assert {key: scores["all"][key] for key in vars(counts)} == vars(counts) and set(scores["classes"]) == {"rising"}
    ledger = {Path(row.path).stem: (row.status, row.reason) for row in found.ledger.rows}
    assert ledger["good"] == ledger["shots"] == ("ok", "")
    assert ledger["few"] == ("quarantined", "the class has 4 events, fewer than 5 examples")
    assert ledger["silent"] == ("quarantined", "the recording is silent")
    assert ledger["broken"][0] == "quarantined"
    assert output.with_suffix(".ledger.csv").is_file()


def test_scores_of_an_earlier_call_do_not_stay_where_nothing_can_be_compared(folder) -> None:
    for name in ("good", "few", "silent", "broken"):
        (folder / f"{name}.csv").unlink()
    output = folder / "found.csv"
    output.with_suffix(".scores.json").write_text("{}")
    found = detect_in_recordings(
        Data(root=str(folder), table="shots.csv", multi_label=True), output, DetectionSettings()
    )
    assert found.counts() == {} and not output.with_suffix(".scores.json").exists()


def test_table_without_times_and_settings_out_of_range_are_refused(tmp_path) -> None:
    (tmp_path / "labels.csv").write_text("filename,label\na.wav,x\n")
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    with pytest.raises(UserError, match="must have events with times"):
        detect_in_recordings(
            Data(root=str(tmp_path), table="labels.csv", multi_label=True), tmp_path / "o.csv", DetectionSettings()
        )
    for settings, words in (
        ({"fmax_hz": 20_000.0}, "fmax must be in 0..16000 Hz"),
        ({"n_shots": 1}, r"n_shots must be in 2\.\.1000"),
        ({"threshold": 1.5}, "threshold must be in 0"),
    ):
        with pytest.raises(UserError, match=words):
            DetectionSettings(**settings)
