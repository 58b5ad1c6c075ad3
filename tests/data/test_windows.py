"""The cutting rule: against counting sample by sample, whole against streamed, and in all code that cuts recordings."""

import csv
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import keras
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from receiving import module

from birdnet_fs import models
from birdnet_fs.analysis import pseudo_labels
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.table_formats import FORMATS
from birdnet_fs.batches.augment.teacher_features import OtherFrontEnd
from birdnet_fs.core.errors import UserError
from birdnet_fs.data import partition
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.data.windows import (
    WindowRule,
    batched,
    clip_rule,
    n_samples_of,
    overlap_rule,
    pad_to,
    recording_rule,
)
from birdnet_fs.fewshot import enrollment
from birdnet_fs.inference import embed
from birdnet_fs.inference.clips import score_clips
from birdnet_fs.inference.embed import Embedder, Item, embed_clips
from birdnet_fs.inference.engine import Engine
from birdnet_fs.inference.ensemble import EnsembleMember, ensemble_engine
from birdnet_fs.reports import labeled
from birdnet_fs.schema import Data, Experiment, FrontEnd
from birdnet_fs.training import validation

RATE = 8_000
SPEC = FrontEnd(
    sample_rate_hz=RATE, segment_s=5.0, n_fft=512, win_length=512, hop_length=1_000, n_mels=16, fmax_hz=4_000.0
)
CLASSES = ("a", "b")
# (start, real seconds) of the windows of recordings of 5.5, 6.5 and 8 s, windows being 5 s long
HOP_OF_A_WINDOW = {5.5: [(0.0, 5.0)], 6.5: [(0.0, 5.0), (5.0, 1.5)], 8.0: [(0.0, 5.0), (5.0, 3.0)]}
HOP_OF_HALF_A_WINDOW = {5.5: [(0.0, 5.0)], 6.5: [(0.0, 5.0), (2.5, 4.0)], 8.0: [(0.0, 5.0), (2.5, 5.0)]}


def brute(n_total: int, n_samples: int, hop: int, rate: int) -> list[tuple[int, int]]:
    """(start, n_real) by marking every sample that a whole window covers."""
    covered, starts = np.zeros(n_total, bool), []
    for start in range(0, n_total, hop):
        if start + n_samples <= n_total:
            covered[start : start + n_samples] = True
            starts.append(start)
    found = [(start, n_samples) for start in starts]
    after = len(starts) * hop  # where the next window would start
    n_left = sum(not covered[i] for i in range(after, n_total))
    if n_left and (not starts or (n_left >= rate or 2 * n_left >= n_samples)):
        found.append((after, n_total - after))
    return found


CASES = st.tuples(st.integers(0, 120), st.integers(1, 24), st.integers(1, 40), st.integers(1, 30))


@settings(deadline=None)
@given(CASES, st.lists(st.integers(0, 120), max_size=6))
def test_windows_equal_brute_force_whole_and_streamed(case: tuple[int, int, int, int], cuts: list[int]) -> None:
    n_total, n_samples, hop, rate = case
    signal = np.arange(1, n_total + 1, dtype=np.float32)
    rule, wanted = WindowRule(n_samples, hop, rate), brute(*case)
    assert rule.windows(n_total) == wanted
    expected = [np.pad(signal[start : start + n], (0, n_samples - n)) for start, n in wanted]
    np.testing.assert_array_equal(rule.cut(signal), np.array(expected, np.float32).reshape(-1, n_samples))
    streamed = [(window, waveform.copy()) for window, waveform in rule.stream(np.split(signal, sorted(cuts)))]
    assert [window for window, _ in streamed] == wanted
    for (_, waveform), row in zip(streamed, expected, strict=True):
        assert waveform.dtype == np.float32
        np.testing.assert_array_equal(waveform, row)


@settings(deadline=None)
@given(CASES)
def test_reader_of_exported_files_repeats_the_rule(case: tuple[int, int, int, int]) -> None:
    n_total, n_samples, hop, rate = case
    hop = min(hop, n_samples)
    wanted = WindowRule(n_samples, hop, rate).windows(n_total)
    assert module("reading").cut_windows(n_total, n_samples, hop, rate) == wanted


def test_rest_of_a_second_or_half_a_window_is_kept() -> None:
    def n_windows(segment_s: float, length_s: float) -> int:
        return len(recording_rule(segment_s, 100).windows(round(length_s * 100)))

    assert [n_windows(5.0, s) for s in (0.0, 0.01, 5.0, 5.99, 6.0, 10.0, 10.99, 11.0)] == [0, 1, 1, 1, 2, 2, 2, 3]
    assert [n_windows(1.0, s) for s in (1.0, 1.49, 1.5, 2.0, 2.49, 2.5)] == [1, 1, 2, 2, 2, 3]


def test_rest_is_what_no_window_covers() -> None:
    # 11 samples, windows of 10 every 2: the second window would hold 9 samples, but only one is new
    assert WindowRule(10, 2, 2).windows(11) == [(0, 10)]


def test_stream_takes_constant_memory() -> None:
    def peak(n_blocks: int) -> int:
        blocks = (np.ones(50_000, np.float32) for _ in range(n_blocks))
        tracemalloc.start()
        count = sum(len(group) for group in batched(WindowRule(20_000, 10_000, 10_000).stream(blocks), 4))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == n_blocks * 5 - 1
        return most

    assert peak(400) < 1.5 * peak(20)


def test_batched_keeps_all_items() -> None:
    assert list(batched(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("overlap", [-0.1, 5.0, 6.0, 4.9999999, float("nan")])
def test_overlap_out_of_range_is_refused(overlap: float) -> None:
    with pytest.raises(UserError, match=r"overlap must be 0 or more and below the model's segment of 5 s. Received"):
        overlap_rule(5.0, 32_000, overlap)


def test_times_are_rounded_to_samples() -> None:
    assert overlap_rule(3.0, 48_000, 1.5) == WindowRule(144_000, 72_000, 48_000)
    assert recording_rule(5.0, 32_000) == WindowRule(160_000, 160_000, 32_000)
    assert recording_rule(5.0, 32_000, 2.0) == WindowRule(160_000, 64_000, 32_000)
    assert clip_rule(5, 10) == WindowRule(5, 2, 10) and clip_rule(1, 10).hop == 1
    assert (recording_rule(5.0, 32_000).min_rest, recording_rule(0.2, 22_050).min_rest) == (32_000, 2_205)
    for segment_s, hop_s in ((0.0, 0.0), (-1.0, 0.0), (1.0, -1.0), (1e-6, 0.0), (1.0, 1e-6)):
        with pytest.raises(UserError, match=r"segment_s must be above 0, segment_hop_s 0 or more, and both at least"):
            recording_rule(segment_s, 32_000, hop_s)


@pytest.mark.parametrize(("native", "rate"), [(44_100, 32_000), (32_000, 16_000), (22_050, 48_000), (8_000, 8_000)])
def test_n_samples_of_equals_the_samples_of_soxr(native: int, rate: int) -> None:
    for n in (*range(1_000, 1_040), 264_599, 264_600, 264_601):
        assert n_samples_of(n / native, rate) == len(soxr.resample(np.zeros(n, np.float32), native, rate))


def test_pad_to_cuts_or_pads_with_zeros() -> None:
    assert pad_to(np.arange(1.0, 4.0), 5).tolist() == [1, 2, 3, 0, 0]
    assert pad_to(np.arange(1.0, 4.0), 2).tolist() == [1, 2]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory):
    """Write a file of the given seconds in which each sample is its number, from 1, over 2 ** 16."""
    folder = tmp_path_factory.mktemp("ramps")

    def write(seconds: float) -> Path:
        path = folder / str(seconds) / "ramp.wav"
        path.parent.mkdir(exist_ok=True)
        ramp = np.arange(1, round(seconds * RATE) + 1, dtype=np.float32) / 2**16
        soundfile.write(path, ramp, RATE, subtype="FLOAT")
        return path

    return write


def places(windows) -> list[tuple[float, float]]:
    """(start, real seconds) of windows of a ramp [n, n_samples]; after the real samples all are zeros."""
    found = []
    for row in np.asarray(windows):
        start, n_real = round(float(row[0]) * 2**16) - 1, int(np.count_nonzero(row))
        assert len(row) == SPEC.n_samples
        np.testing.assert_array_equal(row[:n_real] * 2**16, start + 1 + np.arange(n_real))
        found.append((start / RATE, n_real / RATE))
    return found


def engine_that_stores_windows() -> tuple[Engine, list[np.ndarray]]:
    """An engine, and the windows that it scored."""
    given: list[np.ndarray] = []

    def forward(waveforms: np.ndarray) -> np.ndarray:
        given.extend(waveforms.copy())
        return np.zeros((len(waveforms), 2), np.float32)

    return Engine(CLASSES, SPEC, "sigmoid", "x", forward), given


def events_in(path: Path) -> Manifest:
    return Manifest((Clip(path, 0.2, 0.4, ("a",)),), CLASSES, Ledger(), path.parent, events=True)


def by_training_on_events(path, tmp_path, monkeypatch):
    clips = partition.clips_to_train_on(events_in(path), Experiment(frontend=SPEC))
    read = Waveforms(clips, RATE)
    assert [len(read[i]) / RATE for i in range(len(read))] == [clip.offset_s - clip.onset_s for clip in clips]
    assert clips[-1].offset_s <= soundfile.info(path).duration
    return [pad_to(read[i], SPEC.n_samples) for i in range(len(read))]


def by_evaluating_events(path, tmp_path, monkeypatch):
    monkeypatch.setattr(labeled, "read_manifest", lambda data, classes: events_in(path))
    engine, given = engine_that_stores_windows()
    table, *_ = labeled.score_labeled(engine, Data())
    assert [(row.onset_s, row.duration_s) for row in table.rows] == places(given)
    return given


def by_analyzing(path, tmp_path, monkeypatch):
    engine, given = engine_that_stores_windows()
    analyze(engine, [path], tmp_path / "tables", min_confidence=0.0, top_n=1)
    with open(next((tmp_path / "tables").glob("*.results.csv")), encoding="utf-8", newline="") as file:
        spans = [(float(row["Start (s)"]), float(row["End (s)"])) for row in csv.DictReader(file)]
    assert [(start, end - start) for start, end in spans] == places(given)
    return given


def by_pseudo_labels(path, tmp_path, monkeypatch):
    engine, given = engine_that_stores_windows()
    table = pseudo_labels.label_recordings(engine, [path], tmp_path / "labeled")
    with open(table, encoding="utf-8", newline="") as file:
        rows = [(float(row["onset_s"]), float(row["duration_s"])) for row in csv.DictReader(file)]
    assert rows == places(given)
    return given


def by_the_device_reader(path, tmp_path, monkeypatch):
    reading = module("reading")
    artifact = SimpleNamespace(sidecar={"sample_rate_hz": RATE, "segment_s": SPEC.segment_s})
    found = list(reading.cut_segments(artifact, reading.read_audio(path, RATE)))
    assert [(start, end - start) for start, end, _ in found] == places([waveform for *_, waveform in found])
    return [waveform for *_, waveform in found]


def network() -> keras.Model:
    return models.build("cnn/tiny", input_shape=(*SPEC.shape, 1), n_classes=2)


def noted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str = "log_mel") -> list[np.ndarray]:
    """The windows that a module computes features of by a function that it imports."""
    given: list[np.ndarray] = []
    compute = getattr(module, name)
    monkeypatch.setattr(module, name, lambda windows, spec: given.extend(windows) or compute(windows, spec))
    return given


def by_validation(path, tmp_path, monkeypatch):
    given = noted(monkeypatch, validation)
    waveforms, targets = Waveforms([Clip(path)], RATE), np.array([[1.0, 0.0]])
    experiment = Experiment(data=Data(multi_label=True), frontend=SPEC)
    validation.supervised_validation(network(), waveforms, targets, experiment, CLASSES)()
    return given


def by_evaluating_clips(path, tmp_path, monkeypatch):
    engine, given = engine_that_stores_windows()
    score_clips(engine, [Clip(path)])
    return given


def by_episodes(path, tmp_path, monkeypatch):
    given = noted(monkeypatch, embed, "network_features")
    Embedder(network(), SPEC).items(Waveforms([Clip(path)], RATE), [Item(0)])
    return given


def by_enrollment(path, tmp_path, monkeypatch):
    given = noted(monkeypatch, embed, "network_features")
    embed_clips(Embedder(network(), SPEC), Waveforms([Clip(path)], RATE), "clips")
    return given


def by_enrollment_of_noise(path, tmp_path, monkeypatch):
    given = noted(monkeypatch, embed, "network_features")
    enrollment._background(Embedder(network(), SPEC), [Clip(path)], RATE)
    return given


def by_enrollment_on_the_device(path, tmp_path, monkeypatch):
    enroll = module("enroll_tflite")
    on_device = SimpleNamespace(n_samples=SPEC.n_samples, rate=RATE)
    return list(enroll.clip_windows(on_device, enroll.read_recording(on_device, path).waveform))


def by_a_teacher(path, tmp_path, monkeypatch):
    """A teacher whose segment is shorter than that of the trained run."""
    waveform = Waveforms([Clip(path)], RATE)[0]
    wide = replace(SPEC, segment_s=len(waveform) / RATE)
    other = OtherFrontEnd(wide, SPEC)
    given = noted(monkeypatch, sys.modules[OtherFrontEnd.__module__])
    other.features(waveform)
    return given


def by_a_member(path, tmp_path, monkeypatch):
    """A member of an ensemble whose segment is shorter than that of another member."""
    from birdnet_fs.frontend import in_numpy

    waveform = Waveforms([Clip(path)], RATE)[0]
    wide = replace(SPEC, segment_s=len(waveform) / RATE)
    given: list[np.ndarray] = []
    log_mel = in_numpy.log_mel
    monkeypatch.setattr(
        in_numpy, "log_mel", lambda x, spec: given.extend(x if spec.segment_s == 5 else ()) or log_mel(x, spec)
    )

    def forward(features: np.ndarray) -> np.ndarray:
        return np.zeros((len(features), 2), np.float32)

    both = [EnsembleMember(spec, "sigmoid", np.array([0, 1]), forward) for spec in (wide, SPEC)]
    ensemble_engine(both, CLASSES, how="mean", identity="x").probabilities(waveform[None])
    return given


USERS = {
    by_training_on_events: HOP_OF_A_WINDOW,
    by_evaluating_events: HOP_OF_A_WINDOW,
    by_analyzing: HOP_OF_A_WINDOW,
    by_pseudo_labels: HOP_OF_A_WINDOW,
    by_the_device_reader: HOP_OF_A_WINDOW,
    by_validation: HOP_OF_HALF_A_WINDOW,
    by_evaluating_clips: HOP_OF_HALF_A_WINDOW,
    by_episodes: HOP_OF_HALF_A_WINDOW,
    by_enrollment: HOP_OF_HALF_A_WINDOW,
    by_enrollment_of_noise: HOP_OF_HALF_A_WINDOW,
    by_enrollment_on_the_device: HOP_OF_HALF_A_WINDOW,
    by_a_teacher: HOP_OF_HALF_A_WINDOW,
    by_a_member: HOP_OF_HALF_A_WINDOW,
}


@pytest.mark.parametrize("seconds", [5.5, 6.5, 8.0])
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_all_users_agree_on_the_windows(user, seconds, recording, tmp_path, monkeypatch) -> None:
    """One window of 5.5 s, two of 6.5 and 8 s, whatever the hop; places and padding as the rule says for the hop."""
    found = places(user(recording(seconds), tmp_path, monkeypatch))
    assert len(found) == {5.5: 1, 6.5: 2, 8.0: 2}[seconds]
    assert found == USERS[user][seconds]


def test_no_reported_end_is_later_than_the_recording(tmp_path: Path) -> None:
    """A resampled waveform may be half a sample longer than its recording, and rounding may add more."""
    native = 11_025
    wrong = (  # rounded to samples of the model, and to hundredths of a second, these would be longer than they are
        n for n in range(6 * native, 7 * native) if round(n * RATE / native) / RATE > n / native < round(n / native, 2)
    )
    n = next(wrong)
    path, duration_s = tmp_path / "a.wav", n / native
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, n), native, subtype="PCM_16")
    engine, _ = engine_that_stores_windows()
    analyze(engine, [path], tmp_path / "tables", formats=list(FORMATS), min_confidence=0.0, top_n=1)

    def last(name: str, delimiter: str = ",") -> list[str]:
        [file] = (tmp_path / "tables").glob("*" + FORMATS[name].suffix)
        return list(csv.reader(file.read_text(encoding="utf-8").splitlines(), delimiter=delimiter))[-1]

    offset, length = (float(value) for value in last("kaleidoscope")[3:5])
    ends = {
        "csv": float(last("csv")[1]),
        "raven": float(last("raven", "\t")[4]),
        "audacity": float(last("audacity", "\t")[1]),
        "animal_spot": float(last("animal_spot", "\t")[4]),
        "birdnet": float(last("birdnet")[2].rpartition(":")[2]),
        "kaleidoscope": offset + length,
    }
    assert ends.keys() == FORMATS.keys()
    reading = module("reading")
    artifact = SimpleNamespace(sidecar={"sample_rate_hz": RATE, "segment_s": SPEC.segment_s})
    ends["reader"] = list(reading.cut_segments(artifact, reading.read_audio(path, RATE)))[-1][1]
    ends["events"] = partition.clips_to_train_on(events_in(path), Experiment(frontend=SPEC))[-1].offset_s
    for name, end in ends.items():
        assert duration_s - 0.01 <= end <= duration_s, name
    table = pseudo_labels.label_recordings(engine, [path], tmp_path / "labeled")
    with open(table, encoding="utf-8", newline="") as file:
        *_, row = csv.DictReader(file)
    end = float(row["onset_s"]) + float(row["duration_s"])
    assert duration_s - 0.01 <= end <= duration_s + 1e-8  # nine digits are written
