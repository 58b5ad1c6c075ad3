"""Detection as in ANIMAL-SPOT: files byte by byte, written by hand from the specification (window .8 s, hop .1 s,
call from p(noise), thresholds .5 and .85, windows of a class with a gap below the hop merged)."""

import ast
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from birdnet_fs.analysis.combined.options import table_options
from birdnet_fs.analysis.two_stage.preset import AnimalSpotPreset
from birdnet_fs.analysis.two_stage.run import analyze_animal_spot
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine

RATE, HOP = 8_000, 800
INPUT = SimpleNamespace(sample_rate_hz=RATE, segment_s=0.8, n_samples=6_400, fmin_hz=50.0, fmax_hz=4_000.0)
OFF = -200.0  # exp(-200) is 0 in float32: probabilities are exactly 0, 0.5 and 1
ARVO, NOISE, BELA, BOTH = (0.0, OFF, OFF), (OFF, 0.0, OFF), (OFF, OFF, 0.0), (0.0, 0.0, OFF)
CLASSIFIED = (ARVO, ARVO, BOTH, NOISE, BELA, BELA, BELA, NOISE)
DETECTED = ((0.0, 0.0), *5 * ((0.0, OFF),), (OFF, 0.0), (0.0, OFF))  # call, noise; 0.5 passes, window 6 does not


def engine(classes, logits, spec=INPUT):
    """An engine whose answer for a window is that of its number, which is its first sample in 1/64."""
    table = np.array(logits, np.float32)

    def forward(waveforms):
        return table[np.round(waveforms[:, 0] * 64).astype(int) - 1]

    return Engine(classes, spec, "softmax", f"fake {classes} {logits}", forward)


CLASSIFIER = engine(("arvo", "noise", "bela"), CLASSIFIED)
DETECTOR = engine(("call", "noise"), DETECTED)


def write_tape(path, n=12_000):
    """Blocks of a hop whose samples are 1/64, 2/64, ...: 1.5 s."""
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, ((np.arange(n) // HOP + 1) / 64), RATE, subtype="PCM_16")
    return path


LOG = """\
00:00:00|I|tape.wav
00:00:00|I|dataOpts: {'sr': 8000, 'fmin': 50, 'fmax': 4000}
00:00:00|I|prediction length: 0.8[s], hop length: 0.1[s], threshold: 0.85, prediction fmin: 50[Hz] \
prediction fmax: 4000[Hz]
00:00:00|I|class distribution: {'arvo': 0, 'noise': 1, 'bela': 2}
00:00:00|I|size of the file(samples)=12000
00:00:00|I|size of hop(samples)=800
00:00:00|I|stop time=15
00:00:00|I|time=0.0-0.8, pred=1, pred_class=arvo-0, prob=1.0
00:00:00|I|time=0.1-0.9, pred=1, pred_class=arvo-0, prob=1.0
00:00:00|I|time=0.2-1.0, pred=0, pred_class=arvo-0, prob=0.5
00:00:00|I|time=0.3-1.1, pred=0, pred_class=noise-1, prob=1.0
00:00:00|I|time=0.4-1.2, pred=1, pred_class=bela-2, prob=1.0
00:00:00|I|time=0.5-1.3, pred=1, pred_class=bela-2, prob=1.0
00:00:00|I|time=0.6-1.4, pred=0, pred_class=noise-1, prob=1.0
00:00:00|I|time=0.7-1.5, pred=0, pred_class=noise-1, prob=1.0
"""
HEADER = "Selection\tView\tChannel\tBegin time (s)\tEnd time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSound type\tComments\n"


def test_files_of_two_stages_are_those_of_the_specification(tmp_path):
    write_tape(tmp_path / "rec" / "tape.wav")
    preset = AnimalSpotPreset(rule="windows")
    ledger = analyze_animal_spot(CLASSIFIER, [tmp_path / "rec"], tmp_path / "out", detector=DETECTOR, preset=preset)
    assert ledger.counts()["ok"] == 1
    assert (tmp_path / "out" / "tape_predict_output.log").read_bytes() == LOG.encode()
    assert (tmp_path / "out" / "tape.annotation.result.txt").read_bytes() == (
        HEADER + "1\tSpectrogram 1\t1\t0.0\t0.9\t50\t4000\tarvo\t1.0000\n"
        "2\tSpectrogram 1\t1\t0.4\t1.3\t50\t4000\tbela\t1.0000\n"
    ).encode()


def test_log_is_read_as_the_evaluation_of_animal_spot_reads_it(tmp_path):
    """It looks for these words in a line, and divides it at `|I|`, commas, spaces and hyphens."""
    write_tape(tmp_path / "rec" / "tape.wav")
    analyze_animal_spot(CLASSIFIER, [tmp_path / "rec"], tmp_path / "out", detector=DETECTOR)
    windows, about = [], {}
    for line in (tmp_path / "out" / "tape_predict_output.log").read_text().splitlines():
        if "pred=" in line and "prob=" in line:
            message = line.split("|I|")[1]
            time = message.split(",")[0].split("time=")[1]
            number = int(message.split("pred_class=")[1].split(",")[0].split("-")[1])
            windows.append((*map(float, time.split("-")), number, float(message.split("prob=")[1])))
        elif "prediction length" in line and "hop length" in line:
            about["lengths"] = [float(part.split(" ")[-1].split("[")[0]) for part in line.split(",")[:2]]
        elif "class distribution" in line:
            about["classes"] = ast.literal_eval(line.split("class distribution:")[-1].strip())
        elif "dataOpts" in line:
            about["options"] = ast.literal_eval(line.split("dataOpts:")[-1].strip())
    assert about["lengths"] == [0.8, 0.1] and about["classes"] == {"arvo": 0, "noise": 1, "bela": 2}
    assert about["options"]["fmin"] == 50
    assert windows[4] == (0.4, 1.2, 2, 1.0) and len(windows) == 8


def test_one_stage_gives_every_slice_its_most_probable_window(tmp_path):
    write_tape(tmp_path / "rec" / "tape.wav")
    analyze_animal_spot(CLASSIFIER, [tmp_path / "rec"], tmp_path / "out")
    # 0-.8 window 0, .8-.9 window 1, .9-1.1 window 3 (noise), 1.1-1.4 windows 4, 5, 6, 1.4-1.5 window 7 (noise)
    assert (tmp_path / "out" / "tape.annotation.result.txt").read_bytes() == (
        HEADER + "1\tSpectrogram 1\t1\t0.0\t0.9\t50\t4000\tarvo\t1.0000\n"
        "2\tSpectrogram 1\t1\t1.1\t1.4\t50\t4000\tbela\t1.0000\n"
    ).encode()
    log = (tmp_path / "out" / "tape_predict_output.log").read_text()
    assert "time=0.6-1.4, pred=1, pred_class=bela-2, prob=1.0\n" in log  # no detector in front of it


def test_binary_classifier_writes_the_probability_of_its_call(tmp_path):
    write_tape(tmp_path / "rec" / "tape.wav", 8_000)
    binary = engine(("noise", "target"), [(0.0, 0.0), (OFF, 0.0), (0.0, OFF)])
    analyze_animal_spot(binary, [tmp_path / "rec"], tmp_path / "out")
    lines = (tmp_path / "out" / "tape_predict_output.log").read_text().splitlines()[-3:]
    assert lines == [
        "00:00:00|I|time=0.0-0.8, pred=0, prob=0.5",
        "00:00:00|I|time=0.1-0.9, pred=1, prob=1.0",
        "00:00:00|I|time=0.2-1.0, pred=0, prob=0.0",
    ]


def test_second_call_writes_nothing_again_and_a_format_needs_no_scoring(tmp_path):
    path = write_tape(tmp_path / "rec" / "tape.wav")
    analyze_animal_spot(CLASSIFIER, [path], tmp_path / "out", detector=DETECTOR)

    def forward(waveforms):
        raise AssertionError("scored again")

    silent = Engine(CLASSIFIER.classes, INPUT, "softmax", CLASSIFIER.identity, forward)
    given = {"detector": DETECTOR, "formats": ("animal_spot", "csv"), "table_options": table_options("csv")}
    analyze_animal_spot(silent, [path], tmp_path / "out", **given)
    (tmp_path / "out" / "tape_predict_output.log").unlink()
    analyze_animal_spot(silent, [path], tmp_path / "out", **given)
    assert re.findall("pred=.", (tmp_path / "out" / "tape_predict_output.log").read_text()).count("pred=1") == 4
    assert (tmp_path / "out" / "detections.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(("n", "n_windows"), [(3_000, 1), (6_400, 1), (7_199, 1), (7_200, 2)])
def test_number_of_windows_is_that_of_animal_spot(tmp_path, n, n_windows):
    """max(ceil((n + 1 - L) / hop), 1)"""
    analyze_animal_spot(CLASSIFIER, [write_tape(tmp_path / "rec" / "tape.wav", n)], tmp_path / "out")
    assert (tmp_path / "out" / "tape_predict_output.log").read_text().count("time=") - 1 == n_windows


def test_broken_recording_is_quarantined(tmp_path):
    write_tape(tmp_path / "rec" / "tape.wav")
    (tmp_path / "rec" / "junk.wav").write_bytes(b"junk" * 100)
    ledger = analyze_animal_spot(CLASSIFIER, [tmp_path / "rec"], tmp_path / "out", detector=DETECTOR)
    assert ledger.counts() == {"ok": 1, "partial": 0, "quarantined": 1}


def test_models_that_cannot_be_used_are_refused(tmp_path):
    path = write_tape(tmp_path / "rec" / "tape.wav")
    short = SimpleNamespace(**{**vars(INPUT), "segment_s": 0.5, "n_samples": 4_000})
    two = engine(("a", "b"), [(0.0, 0.0)] * 8)
    for given, words in (
        ({"detector": two}, "The detector of --two_stage must have a class noise"),
        ({"detector": engine(("call", "noise"), DETECTED, short)}, "detector must have a segment of 0.8 s or more"),
        ({"preset": AnimalSpotPreset(threshold=2)}, "min_conf must be in 0..1"),
        ({"preset": AnimalSpotPreset(detector_threshold=-1)}, "gate_threshold must be in 0..1"),
    ):
        with pytest.raises(UserError, match=words):
            analyze_animal_spot(CLASSIFIER, [path], tmp_path / "out", **given)
    with pytest.raises(UserError, match="must have a class that is a detection"):
        analyze_animal_spot(engine(("noise", "nocall"), [(0.0, 0.0)]), [path], tmp_path / "out")
