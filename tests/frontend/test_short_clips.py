"""Features of clips shorter than a segment: those of the clip alone, zeros behind, in every form of the front-end."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
import reference_frontend as reference
import soundfile
import soxr
import tolerances
import uncompiled_librosa as librosa
from receiving import module
from signals import sounds

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.windows import pad_to
from birdnet_fs.export.sidecars import frontend_constants
from birdnet_fs.frontend import in_keras, preset
from birdnet_fs.frontend.in_numpy import log_mel, log_mel_reference

SPEC = preset("fewshot")
N_EVENTS = 20


def document_features(event):
    """Features of an event as the few-shot document and its repository specify them, [512, 128]."""
    x = np.asarray(event, np.float64)
    x = np.pad(x, (0, max(0, int(0.2 * 22_050) - len(x))))
    mel = librosa.feature.melspectrogram(
        y=x, sr=22_050, n_fft=1024, hop_length=256, n_mels=128, fmin=50, fmax=11_025, power=2.0, pad_mode="constant"
    )
    db = librosa.power_to_db(mel + 2e-16)
    db = (db - db.mean()) / db.std() if db.std() > 1e-8 else db
    return np.pad(db[:, :512], ((0, 0), (0, max(0, 512 - db.shape[1])))).T


@pytest.fixture(scope="module")
def events(shared_data):
    """20 labeled events of 0.05 to 5 s, from all sets and lengths, float32 [n_samples] each at 22,050 Hz."""
    with open(shared_data / "annotations.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if float(row["end"]) - float(row["start"]) < 5]
    rows.sort(key=lambda row: float(row["end"]) - float(row["start"]))
    few = [rows[i] for i in np.linspace(0, len(rows) - 1, N_EVENTS - 8).astype(int)]
    few += [row for row in rows if row["set"] != "bf_bird0"][:: len(rows) // 400][:8]
    found = []
    for row in few[:N_EVENTS]:
        with soundfile.SoundFile(shared_data / "audio" / row["filename"]) as file:
            start, end = (round(float(row[key]) * file.samplerate) for key in ("start", "end"))
            file.seek(start)
            x = file.read(end - start, dtype="float32", always_2d=True).mean(axis=1)
            found.append(soxr.resample(x, file.samplerate, 22_050).astype(np.float32))
    assert len(found) == N_EVENTS
    return found


def by_reader(waveform, spec):
    return module("reading").log_mel(waveform, spec.to_artifact(), frontend_constants(spec))


def in_graph(transform):
    return lambda waveform, spec: keras.ops.convert_to_numpy(in_keras.log_mel(waveform, spec, transform))[0]


EXECUTIONS = {
    "in_numpy": lambda waveform, spec: log_mel(waveform, spec)[0],
    "reference": lambda waveform, spec: log_mel_reference(waveform, spec)[0],
    "in_keras rfft": in_graph("rfft"),
    "in_keras dft": in_graph("dft"),
    "reading.py": by_reader,
}
ALL = pytest.mark.parametrize("execution", EXECUTIONS.values(), ids=EXECUTIONS)


@pytest.mark.shared
@ALL
def test_features_of_20_short_events_are_those_of_the_document(execution, events):
    """Padded before the normalization they are off by 1.4 to 14.2."""
    for event in events:
        difference = np.abs(execution(pad_to(event, SPEC.n_samples), SPEC) - document_features(event)).max()
        assert difference <= tolerances.SHORT_CLIPS


@ALL
@pytest.mark.parametrize("n_samples", [1, 3, 4409, 4410, 255 * 22, 256 * 22, 256 * 22 + 1, 50_000, 511 * 256 - 1])
def test_padded_clip_has_the_features_of_the_clip(execution, n_samples):
    clip = sounds(SPEC, 1, max(n_samples, 100))[0][:n_samples] + np.float32(0.01)
    found = execution(pad_to(clip, SPEC.n_samples), SPEC)
    assert found.shape == SPEC.shape
    assert np.abs(found - document_features(clip)).max() <= tolerances.SHORT_CLIPS
    own = found[: 1 + max(n_samples, 4410) // 256]
    assert abs(own.mean()) <= tolerances.SHORT_CLIPS and abs(own.std() - 1) <= tolerances.SHORT_CLIPS
    assert not found[len(own) :].any()


@ALL
def test_only_zeros_at_the_end_are_padding(execution):
    """Digital silence within a clip belongs to it; at its end it counts as padding."""
    clip = sounds(SPEC, 1, 40_000)[0] + np.float32(0.01)
    clip[:5_000] = clip[20_000:25_000] = 0
    silent_end = np.concatenate([clip, np.zeros(30_000, np.float32)])
    assert (
        np.abs(execution(pad_to(clip, SPEC.n_samples), SPEC) - document_features(clip)).max() <= tolerances.SHORT_CLIPS
    )
    np.testing.assert_array_equal(
        execution(pad_to(silent_end, SPEC.n_samples), SPEC), execution(pad_to(clip, SPEC.n_samples), SPEC)
    )


@ALL
def test_silent_clip_is_the_shortest_clip_of_silence(execution):
    found = execution(np.zeros(SPEC.n_samples, np.float32), SPEC)
    np.testing.assert_allclose(found, document_features(np.zeros(1)), rtol=tolerances.SHORT_CLIPS)
    assert found[:18].max() < -90 and not found[18:].any()


@pytest.mark.parametrize("name", ["fewshot", "fewshot_pcen"])
def test_full_segments_have_the_features_of_normalize_when_first(name):
    spec = preset(name)
    first = dataclasses.replace(spec, normalize_when="first", min_clip_s=0.0)
    x = sounds(spec, 2)
    if name == "fewshot_pcen":
        np.testing.assert_array_equal(log_mel(x, spec), log_mel(x, first))
    assert np.abs(log_mel_reference(x, spec) - log_mel_reference(x, first)).max() == 0
    assert np.abs(log_mel(x, spec) - log_mel(x, first)).max() <= tolerances.FRONTEND_FLOAT64


@pytest.mark.parametrize(
    "changed",
    [
        {"compression": "pcen"},
        {"normalize": "min_max", "normalize_eps": 1e-6},
        {"ref": "max", "compression": "log", "top_db": 30.0},
        {"resize": (64, 32), "keep_frames": 300},
        {"hop_length": 200, "min_clip_s": 0.0, "keep_frames": 0},
    ],
    ids=lambda changed: next(iter(changed)),
)
@ALL
def test_other_settings_agree_with_librosa(execution, changed):
    spec = dataclasses.replace(SPEC, **changed)
    for n_samples in (700, 30_000):
        segment = pad_to(sounds(spec, 1, n_samples)[0], spec.n_samples)
        expected = reference.features(segment, spec)
        limit = tolerances.EXPORT_READER_FEATURES * max(1.0, np.abs(expected).max())
        assert np.abs(execution(segment, spec) - expected).max() <= limit


def test_batches_mix_lengths():
    clips = [pad_to(sounds(SPEC, 1, n)[0], SPEC.n_samples) for n in (2_000, 60_000, SPEC.n_samples)]
    together = np.stack(clips)
    for call in (log_mel, log_mel_reference, lambda x, spec: keras.ops.convert_to_numpy(in_keras.log_mel(x, spec))):
        for row, clip in zip(call(together, SPEC), clips, strict=True):
            np.testing.assert_array_equal(row, call(clip, SPEC)[0])


def test_shorter_waveforms_are_refused_with_the_length():
    with pytest.raises(UserError, match=r"must have 4410 samples or more .* min_clip_s 0.2\); pad it with zeros"):
        log_mel(np.ones(4409, np.float32), SPEC)
    assert log_mel(np.ones(4410, np.float32), SPEC).shape == (1, *SPEC.shape)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"normalize": "db_range"}, "frontend.normalize must be z_score or min_max or none with"),
        ({"pad_mode": "reflect"}, "frontend.pad_mode must be constant with"),
        ({"keep_from": "center"}, "frontend.keep_from must be start with"),
        ({"preemphasis": 0.9}, "frontend.preemphasis must be 0 with"),
        ({"min_clip_s": -1.0}, "frontend.min_clip_s must be 0 or more"),
        ({"min_clip_s": 6.0}, r"frontend.segment_s must be 6 s or more \(min_clip_s\)"),
        ({"normalize_when": "first"}, "frontend.min_clip_s needs frontend.normalize_when=clip"),
    ],
)
def test_settings_under_which_padding_would_show_are_refused(changed, words):
    with pytest.raises(UserError, match=words):
        dataclasses.replace(SPEC, **changed)
