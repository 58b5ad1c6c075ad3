"""Sampling of windows from an analysis: strata, clips, the sheet, and the road to the estimates."""

import csv
import hashlib
import itertools
import json

import numpy as np
import pytest
import soundfile
from level_model import CLASSES, RATE, LevelModel, square, write_wav

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.combined.read import read_analysis
from birdnet_fs.analysis.segments import cut_segments
from birdnet_fs.analysis.verification.report import write_estimates
from birdnet_fs.analysis.verification.sample import sample_windows
from birdnet_fs.analysis.verification.strata import allocate, draw_strata
from birdnet_fs.core.errors import UserError

LOUD, QUIET = 0.125, 0.0625  # probabilities .82 and .095 of the first class


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fill(folder, verdict):
    rows = read(folder / "sheet.csv")
    with open(folder / "sheet.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows({**row, "verdict": verdict(row)} for row in rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two recordings of 20 and 12 s: every fourth second is loud; and their analysis."""
    folder = tmp_path_factory.mktemp("sample")
    (folder / "rec").mkdir()
    for name, n in (("a", 20), ("b", 12)):
        square(folder / "rec" / f"{name}.wav", [LOUD if i % 4 == 3 else QUIET for i in range(n)])
    analyze(LevelModel().engine, [folder / "rec"], folder / "out", min_confidence=0.5, species=[CLASSES[0]])
    return folder


def test_clips_hold_their_windows_with_a_margin(place, tmp_path):
    assert sample_windows(place / "out", tmp_path / "check", per_class=10, margin_s=0.25) == {CLASSES[0]: 10}
    rows = read(tmp_path / "check" / "sheet.csv")
    for row in rows:
        clip, rate = soundfile.read(tmp_path / "check" / row["clip"])
        whole, _ = soundfile.read(row["path"])
        start, end, inside = float(row["start_s"]), float(row["end_s"]), float(row["start_in_clip_s"])
        first = round(max(0, start - 0.25) * RATE)
        assert rate == RATE and inside == pytest.approx(start - first / RATE)
        np.testing.assert_array_equal(clip, whole[first : round((end + 0.25) * RATE)])
        assert row["verdict"] == "" and end - start == 1.0
    assert len({(row["path"], row["start_s"]) for row in rows}) == 10
    assert "confidence" not in rows[0]


def test_perfect_verdicts_of_all_windows_give_the_true_density_and_precision(place, tmp_path):
    sample_windows(place / "out", tmp_path / "check", per_class=100)
    assert len(read(tmp_path / "check" / "sheet.csv")) == 32  # every window
    fill(tmp_path / "check", lambda row: "yes" if float(row["start_s"]) in (3.0, 7.0, 8.0) else "no")
    [row] = write_estimates(tmp_path / "check")
    # a has calls at 3, 7, 8 s, b at 3, 7, 8 s: 6 of 32 windows; 8 windows are detected, 4 of them rightly
    assert (row["density"], row["density_low"], row["density_high"]) == (6 / 32, 6 / 32, 6 / 32)
    assert (row["precision"], row["precision_low"], row["precision_high"]) == (0.5, 0.5, 0.5)
    assert (row["n_windows"], row["n_detected"], row["n_yes"], row["n_no"]) == (32, 8, 6, 26)
    [written] = read(tmp_path / "check" / "estimates.csv")
    assert written["density"] == "0.1875" and written["label"] == CLASSES[0]


def test_open_and_unsure_clips_are_left_out(place, tmp_path, capsys):
    sample_windows(place / "out", tmp_path / "check", per_class=20)
    [row] = write_estimates(tmp_path / "check")
    assert np.isnan(row["density"]) and row["n_open"] == 20
    assert "strata have no verdict of yes or no" in capsys.readouterr().err
    fill(tmp_path / "check", lambda row: "Yes " if row["clip"].endswith("1.wav") else "unsure")
    [row] = write_estimates(tmp_path / "check")
    assert row["n_open"] == 0 and row["n_yes"] + row["n_unsure"] == 20


def test_draw_depends_on_the_seed_alone(place, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("two", 2)):
        sample_windows(place / "out", tmp_path / name, per_class=6, seed=seed)
    sheets = [(tmp_path / name / "sheet.csv").read_bytes() for name in ("one", "again", "two")]
    assert sheets[0] == sheets[1] != sheets[2]


def test_strata_are_halves_of_the_rest_and_equally_drawn():
    scores = np.linspace(0.1, 0.9, 80)
    strata = draw_strata(scores, 1000, 50, np.random.default_rng(0))
    assert [each.n_windows for each in strata] == [1000, 40, 20, 10, 10]
    assert [len(set(each.drawn.tolist())) for each in strata] == [10] * 5
    for before, after in itertools.pairwise(strata[1:]):
        assert scores[before.drawn].max() <= before.high < after.low <= scores[after.drawn].min()
    assert [each.number for each in draw_strata(scores[:1], 0, 5, np.random.default_rng(0))] == [1]
    assert allocate(np.array([1000, 40, 20, 10, 3]), 50).tolist() == [12, 12, 13, 10, 3]


def test_every_window_is_drawn_equally_often():
    scores, counts = np.linspace(0.1, 0.9, 16), np.zeros(16)
    for seed in range(2000):
        for each in draw_strata(scores, 0, 8, np.random.default_rng(seed)):
            counts[each.drawn] += len(each.drawn) and each.n_windows / len(each.drawn)
    np.testing.assert_allclose(counts / 2000, 1, atol=0.12)  # 5 standard errors of the rarest, sqrt(3 / 2000)


def test_moved_recordings_are_found_and_changed_ones_refused(place, tmp_path):
    analyze(LevelModel().engine, [place / "rec"], tmp_path / "out", min_confidence=0.5)
    (tmp_path / "moved").mkdir()
    for path in (place / "rec").iterdir():
        (tmp_path / "moved" / path.name).write_bytes(path.read_bytes())
    sample_windows(tmp_path / "out", tmp_path / "check", per_class=2, recordings=tmp_path / "moved")
    write_wav(tmp_path / "moved" / "a.wav", 1)
    with pytest.raises(UserError, match=r"1 of 2 analyzed recordings are not there or have changed .*a\.wav"):
        sample_windows(tmp_path / "out", tmp_path / "other", recordings=tmp_path / "moved")


@pytest.mark.parametrize("fault", ["missing", "changed", "of another version"])
def test_recording_without_stored_detections_is_never_left_out(place, tmp_path, fault):
    analyze(LevelModel().engine, [place / "rec"], tmp_path / "out", min_confidence=0.5)
    stored = min((tmp_path / "out" / ".done").glob("*.detections"))
    text = stored.read_text().replace('"format": 1', '"format": 9')
    stored.unlink() if fault == "missing" else stored.write_text(text)
    if fault == "of another version":  # as that version wrote it
        stamp = json.loads(stored.with_suffix(".json").read_text())
        stamp["tables"][f".done/{stored.name}"] = [hashlib.sha256(text.encode()).hexdigest()]
        stored.with_suffix(".json").write_text(json.dumps(stamp))
    with pytest.raises(UserError, match=r"The stored detections of .*wav are missing, damaged or of another version"):
        read_analysis(tmp_path / "out")


def test_what_cannot_be_sampled_is_refused(place, tmp_path):
    with pytest.raises(UserError, match="must be a new or an empty folder"):
        sample_windows(place / "out", place / "rec")
    with pytest.raises(UserError, match="written by `birdnet-fs analyze` was expected"):
        sample_windows(place / "rec", tmp_path / "check")
    given = {"min_confidence": 0.05, "species": [CLASSES[0]]}
    analyze(LevelModel().engine, [place / "rec"], tmp_path / "merged", merge_consecutive=3, **given)
    with pytest.raises(UserError, match="analyze with --merge_consecutive 1"):
        sample_windows(tmp_path / "merged", tmp_path / "check")
    analyze(LevelModel().engine, [place / "rec"], tmp_path / "none", min_confidence=1.0)
    with pytest.raises(UserError, match="holds no detection"):
        sample_windows(tmp_path / "none", tmp_path / "check")
    analyze(LevelModel().engine, [place / "rec" / "a.wav"], tmp_path / "two", min_confidence=0.5)
    analyze(LevelModel().engine, [place / "rec" / "b.wav"], tmp_path / "two", min_confidence=0.6)
    with pytest.raises(UserError, match="tables of several models or settings"):
        sample_windows(tmp_path / "two", tmp_path / "check")


def test_sheet_with_other_verdicts_is_refused(place, tmp_path):
    sample_windows(place / "out", tmp_path / "check", per_class=4)
    fill(tmp_path / "check", lambda row: "maybe")
    with pytest.raises(UserError, match=r"sheet.csv row 2: the verdict must be yes, no or unsure, or empty. .*'maybe'"):
        write_estimates(tmp_path / "check")
    for text, words in (("clip,verdic\n1,yes\n", "columns clip and verdict"), ("clip,verdict\nx,yes\n", "none of the")):
        (tmp_path / "check" / "sheet.csv").write_text(text)
        with pytest.raises(UserError, match=words):
            write_estimates(tmp_path / "check")
    (tmp_path / "check" / "sheet.csv").write_text("clip,verdict\nx,yes\nx,no\n")
    with pytest.raises(UserError, match=r"row 3: the clip 'x' is there twice"):
        write_estimates(tmp_path / "check")
    (tmp_path / "check" / "sample.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(UserError, match="written by `birdnet-fs sample` was expected"):
        write_estimates(tmp_path / "check")


def test_segments_are_the_most_confident_detections(place, tmp_path, capsys):
    assert cut_segments(place / "out", tmp_path / "clips", max_segments=3, margin_s=0.5) == 3
    assert "the 3 most confident of 8 detections are cut" in capsys.readouterr().err
    rows = read(tmp_path / "clips" / "segments.csv")
    assert {row["confidence"] for row in rows} == {"0.8176"}
    clip = tmp_path / "clips" / rows[0]["clip"]
    assert clip.name == "0.818_a_3.0s_4.0s.wav" and clip.parent.name == CLASSES[0]
    sound, rate = soundfile.read(clip)
    assert (len(sound), rate, rows[0]["clip_start_s"]) == (2 * RATE, RATE, "2.500")
    assert cut_segments(place / "out", tmp_path / "all", max_segments=0) == 8
    with pytest.raises(UserError, match=r"no detection with a confidence of 0\.9 or more"):
        cut_segments(place / "out", tmp_path / "high", min_confidence=0.9)
    with pytest.raises(UserError, match="must be a new or an empty folder"):
        cut_segments(place / "out", tmp_path / "all")
