"""Segments against a brute-force reference that works sample by sample, and against real windows."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.ledger import Ledger
from birdnet_fs.data.manifest import Clip, Manifest, read_manifest
from birdnet_fs.data.segments import Segment, cut_segments, segment_targets
from birdnet_fs.schema import Data

TICK = 100  # per second and the sample rate: times below are whole ticks, so that the reference counts exactly
FILE = Path("/x/a.wav")


def brute_windows(n, size):
    """Walking from segment to segment; what is left over is kept when it lasts 1 s or half a segment."""
    found, start = [], 0
    while start + size <= n:
        found.append((start, size))
        start += size
    left = n - start
    if left and (not found or left >= TICK or 2 * left >= size):
        found.append((start, left))
    return found


@settings(max_examples=300, deadline=None)
@given(n=st.integers(1, 4000), size=st.integers(2, 900), onset=st.integers(0, 500))
def test_segments_of_clips_equal_brute_force(n, size, onset):
    manifest = Manifest((Clip(FILE, onset / TICK, (onset + n) / TICK, ("a",)),), ("a",), Ledger(), Path("/x"))
    found = cut_segments(manifest, segment_s=size / TICK, segment_hop_s=0.0, min_overlap_s=0.1, sample_rate_hz=TICK)
    spans = [(round(s.onset_s * TICK) - onset, round(s.duration_s * TICK)) for s in found]
    assert spans == brute_windows(n, size)


EVENTS = st.lists(
    st.tuples(st.integers(0, 1900), st.integers(1, 400), st.sampled_from("abc")),
    min_size=1,
    max_size=12,
)


@settings(max_examples=300, deadline=None)
@given(events=EVENTS, n=st.integers(1, 2000), size=st.integers(20, 600), overlap=st.integers(1, 100))
def test_labels_of_events_equal_brute_force(events, n, size, overlap):
    clips = tuple(Clip(FILE, on / TICK, (on + length) / TICK, (label,)) for on, length, label in events)
    manifest = Manifest(clips, ("a", "b", "c"), Ledger(), Path("/x"), events=True, durations={FILE: n / TICK})
    found = cut_segments(
        manifest, segment_s=size / TICK, segment_hop_s=0, min_overlap_s=overlap / TICK, sample_rate_hz=TICK
    )
    expected = []
    for start, length in brute_windows(n, size):
        inside = np.zeros(20_000, bool)
        inside[start : start + length] = True
        labels = set()
        for on, duration, label in events:
            if inside[on : on + duration].sum() >= min(overlap, duration):
                labels.add(label)
        expected.append((start, labels))
    assert [(round(s.onset_s * TICK), set(s.labels)) for s in found] == expected


def test_clips_keep_their_labels_group_fold_and_split():
    clips = (
        Clip(FILE, 2.0, 9.0, ("a", "b"), group="g", fold=3, split="val"),
        Clip(FILE, 1.0, None, ("b",)),
    )
    manifest = Manifest(clips, ("a", "b"), Ledger(), Path("/x"), durations={FILE: 4.5})
    found = cut_segments(manifest, segment_s=3.0, segment_hop_s=0.0, min_overlap_s=0.1, sample_rate_hz=100)
    assert found == [
        Segment(0, FILE, 2.0, 3.0, ("a", "b"), "g", 3, "val"),
        Segment(0, FILE, 5.0, 3.0, ("a", "b"), "g", 3, "val"),
        Segment(0, FILE, 8.0, 1.0, ("a", "b"), "g", 3, "val"),
        Segment(1, FILE, 1.0, 3.0, ("b",), "", None, ""),
    ]
    hot = segment_targets(found, ("b", "a", "z"))
    assert hot.dtype == np.float32 and hot.tolist() == [[1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 0, 0]]
    with pytest.raises(UserError, match=r"'b' of .* is not one of the classes"):
        segment_targets(found, ("a",))
    with pytest.raises(UserError, match="segment_s must be above 0"):
        cut_segments(manifest, segment_s=0, segment_hop_s=0, min_overlap_s=0.1, sample_rate_hz=100)


@pytest.mark.shared
def test_segments_of_real_events_equal_the_known_windows(shared_data):
    """The windows that came with the data, made by another program (an event counts when it overlaps > 0.1 s)."""
    data = Data(str(shared_data), table="raven", audio="audio", multi_label=True)
    found = cut_segments(
        read_manifest(data), segment_s=5.0, segment_hop_s=0.0, min_overlap_s=0.1, sample_rate_hz=32_000
    )
    ours = {(s.path.name, s.onset_s): set(s.labels) for s in found if s.path.name.startswith("soundscape_mix")}
    with open(shared_data / "windows_5s.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "soundscape_mix"]
    theirs = {(row["filename"], float(row["start"])): set(row["labels"].split(";")) - {"nocall"} for row in rows}
    assert len(theirs) == 420 and ours == theirs
    assert any(not labels for labels in ours.values())
