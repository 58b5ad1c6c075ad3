"""Clips that end past their recording: the rule, and that manifest, training and evaluation follow it."""

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.audio.recording_end import PAST_END, TOLERANCE_S, cut_at_end, past_end_message
from birdnet_fs.data.manifest import Clip, read_manifest
from birdnet_fs.data.segments import cut_segments
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.schema import Data


@given(st.floats(0, 100), st.floats(1e-3, 1000), st.floats(0.1, 100))
def test_clip_lies_in_its_recording_or_has_a_problem(onset, length, duration):
    end = cut_at_end(onset, onset + length, duration)
    if onset >= duration:
        assert end.problem and not end.reason
    else:
        assert not end.problem and end.offset_s == min(onset + length, duration)
        assert bool(end.reason) == (onset + length > duration + TOLERANCE_S)


def test_message_counts_the_clips():
    assert past_end_message([]) == ""
    text = past_end_message([("t.csv row 3", "it ends at 9 s."), ("t.csv row 4", "it ends at 8 s.")])
    assert text.startswith("Clips that end past their recording: 2 (the first: t.csv row 3: it ends at 9 s).")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in "abc":
        sf.write(tmp_path / f"{name}.wav", rng.normal(0, 0.1, 16_000), 8000)
    rows = "a.wav,0,2.02,x\na.wav,1,600,x\nb.wav,0,1,y\nb.wav,1.5,3,y\nc.wav,5,6,y\n"
    (tmp_path / "t.csv").write_text("file,start,end,label\n" + rows)
    return tmp_path


@pytest.mark.parametrize(("check", "multi_label"), [(True, False), (True, True), (False, True)])
def test_manifest_cuts_clips_where_lengths_are_known(folder, check, multi_label):
    found = read_manifest(Data(str(folder), multi_label=multi_label), check=check)
    assert [(clip.onset_s, clip.offset_s) for clip in found.clips] == [(0.0, 2.0), (1.0, 2.0), (0.0, 1.0), (1.5, 2.0)]
    rows = {row.source: (row.status, row.reason, PAST_END in row.flags) for row in found.ledger.rows}
    assert rows["t.csv row 2"] == ("ok", "", False)
    assert rows["t.csv row 3"] == (
        "partial", "it ends at 600 s, but the recording ends at 2.000 s; it is cut there.", True,
    )  # fmt: skip
    assert rows["t.csv row 5"][0] == "partial"
    assert rows["t.csv row 6"] == ("quarantined", "it starts at 5 s, but the recording ends at 2.000 s.", False)
    assert any(note.startswith("Clips that end past their recording: 2") for note in found.notes)


def test_clips_that_are_read_are_cut(folder, capsys):
    clips = read_manifest(Data(str(folder))).clips
    waveforms = Waveforms(clips, 8000)
    assert [(clip.onset_s, clip.offset_s) for clip in waveforms.clips] == [(0, 2.0), (1, 2.0), (0, 1.0), (1.5, 2.0)]
    assert [row.status for row in waveforms.ledger.rows] == ["ok", "partial", "ok", "partial", "quarantined"]
    assert waveforms.ledger.rows[1].source == "t.csv row 3"
    assert "Clips that end past their recording: 2 (the first: t.csv row 3: it ends at 600 s" in capsys.readouterr().err


def test_event_past_the_end_labels_no_window(folder):
    found = read_manifest(Data(str(folder), multi_label=True))
    cut = cut_segments(found, segment_s=0.5, segment_hop_s=0, min_overlap_s=0.1, sample_rate_hz=8000)
    assert [s.labels for s in cut if s.path.stem == "b"] == [("y",), ("y",), (), ("y",)]
    assert not [s for s in cut if s.path.stem == "c"]


def test_clip_that_is_whole_keeps_its_status(folder):
    [row] = Waveforms([Clip(folder / "a.wav", 0.0, 2.0)], 8000).ledger.rows
    assert (row.status, row.reason) == ("ok", "")
