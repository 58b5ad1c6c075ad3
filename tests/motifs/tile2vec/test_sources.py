"""Slices and their neighbors, distant rows, and extracted cuts as sources of triplets."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.extract_triplets import cut_file, extract_triplets
from birdnet_fs.motifs.profile_table import ProfileRow
from birdnet_fs.motifs.tile2vec.audio_cache import AudioCache
from birdnet_fs.motifs.tile2vec.sources import Cuts, Slices, distant_rows, neighbor_slices
from birdnet_fs.motifs.triplets import Triplet, write_triplets

RATE, N = 2000, 10_000  # segments of 5 s


def write(path: Path, seconds: float, base: int) -> None:
    """A recording whose samples give its number and, in steps of a second, the time."""
    path.parent.mkdir(exist_ok=True, parents=True)
    times = np.arange(round(seconds * RATE)) // RATE
    soundfile.write(path, (1000 * base + times).astype(np.int16), RATE)


def row(name: str, seconds: float, neighbors: list[int], window: int = 50) -> ProfileRow:
    return ProfileRow(name, "", seconds, window / 10, window, (0.0, 5.0), np.array(neighbors, np.int64))


def as_numbers(segments: np.ndarray) -> np.ndarray:
    return np.rint(segments * 32_768).astype(int)


def brute_force(neighbors: list[int], window: int) -> list[tuple[int, int]]:
    found = []
    for start in range(0, len(neighbors), window):
        votes = [n // window for n in neighbors[start : start + window] if n >= 0]
        if votes:
            found.append((start // window, min(set(votes), key=lambda slice: (-votes.count(slice), slice))))
    return found


def test_neighbor_slices_are_the_mode_of_each_block() -> None:
    rng = np.random.default_rng(0)
    for window in (1, 7, 50):
        neighbors = rng.integers(-1, 300, 301).tolist()
        assert list(map(tuple, neighbor_slices(np.array(neighbors), window).tolist())) == brute_force(neighbors, window)
    assert neighbor_slices(np.full(20, -1), 5).shape == (0, 2)


def test_slices_are_read_at_the_place_of_their_window(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 20.0, 1)
    write(tmp_path / "b.wav", 3.0, 2)
    first = [100] * 50 + [0] * 50 + [50] * 51  # slice 0 -> 2, 1 -> 0, 2 -> 1, 3 (one window) -> 1
    table = [row("a.wav", 20.0, first), row("b.wav", 3.0, [0]), row("gone.wav", 5.0, [0]), row("a.wav", 20.0, [-1] * 9)]
    source = Slices(table, tmp_path, RATE, N, "table")
    assert [r.status for r in source.ledger.rows] == ["ok", "ok", "quarantined", "quarantined"]
    assert source.recordings.tolist() == [0, 0, 0, 0, 1]
    found = source.segments(np.arange(5), np.random.default_rng(0), 0.0)
    anchors, neighbors, distant = (as_numbers(part) for part in found[:3])
    assert anchors.shape == (5, N)
    assert anchors[:4, 0].tolist() == [1000, 1005, 1010, 1015] and neighbors[:4, 0].tolist() == [1010, 1000, 1005, 1005]
    assert anchors[4, : 3 * RATE].min() == 2000 and not anchors[4, 3 * RATE :].any()  # shorter: silence at the end
    assert (distant[:4, 0] == 2000).all() and distant[4, 0] // 1000 == 1  # of the other recording
    shifted = as_numbers(source.segments(np.arange(4), np.random.default_rng(1), 1.0).anchor)
    assert not (shifted == anchors[:4]).all() and (np.abs(shifted[:, 0] - anchors[:4, 0]) <= 1).all()


def test_recording_that_vanishes_while_training_leaves_its_rows_out(tmp_path: Path) -> None:
    for name, base in (("a.wav", 1), ("b.wav", 2), ("c.wav", 3)):
        write(tmp_path / name, 10.0, base)
    table = [row(name, 10.0, [50] * 50 + [0]) for name in ("a.wav", "b.wav", "c.wav")]
    source = Slices(table, tmp_path, RATE, N, "table")
    (tmp_path / "b.wav").unlink()
    found = source.segments(np.arange(6), np.random.default_rng(0), 0.0)
    assert len(found.anchor) == 4
    assert source.ledger.counts() == {"ok": 2, "partial": 0, "quarantined": 1}
    assert not len(source.segments(np.array([2, 3]), np.random.default_rng(0), 0.0).anchor)
    with pytest.raises(UserError, match=r"No slice of .* has a neighbor; give the folder that was mined \(the first"):
        Slices(table, tmp_path / "none", RATE, N, "table")


def test_distant_rows_are_of_other_recordings_where_there_are_any() -> None:
    rng = np.random.default_rng(0)
    recordings = np.array([0, 0, 0, 1, 2])
    drawn = np.stack([distant_rows(recordings, rng) for _ in range(300)])
    assert (recordings[drawn] != recordings[None]).all()
    assert set(drawn[:, 0]) == {3, 4} and set(drawn[:, 3]) == {0, 1, 2, 4}
    same = np.stack([distant_rows(np.zeros(3, int), rng) for _ in range(300)])
    assert all(set(same[:, i]) == {0, 1, 2} - {i} for i in range(3))


def test_cuts_are_shifted_inside_and_belong_to_their_table(tmp_path: Path) -> None:
    write(tmp_path / "audio/a.wav", 30.0, 1)
    write(tmp_path / "audio/b.wav", 30.0, 2)
    rows = [Triplet("a.wav", 10.0, "a.wav", 20.0, "b.wav", 5.0), Triplet("b.wav", 5.0, "gone.wav", 0.0, "a.wav", 1.0)]
    write_triplets(rows, tmp_path / "t.parquet")
    extract_triplets(tmp_path / "t.parquet", tmp_path / "audio", tmp_path / "cuts", sample_rate_hz=RATE)
    source = Cuts(tmp_path / "t.parquet", tmp_path / "cuts", RATE, N)
    assert source.ledger.counts() == {"ok": 1, "partial": 0, "quarantined": 1} and len(source.recordings) == 1
    exact = [as_numbers(part)[0] for part in source.segments(np.zeros(1, int), np.random.default_rng(0), 0.0)[:3]]
    assert [part[0] for part in exact] == [1010, 1020, 2005]
    starts = set()
    for seed in range(30):
        (a, *_) = source.segments(np.zeros(1, int), np.random.default_rng(seed), 5.0)
        starts.add(as_numbers(a)[0, 0])
    assert starts == {1009, 1010, 1011}  # a cut has one second on either side
    cut_file(tmp_path / "cuts", 0).write_bytes(b"broken")
    assert not len(source.segments(np.zeros(1, int), np.random.default_rng(0), 0.0).anchor)
    assert source.ledger.counts()["quarantined"] == 2
    with pytest.raises(UserError, match=r"must hold cuts of .* at 16000 Hz"):
        Cuts(tmp_path / "t.parquet", tmp_path / "cuts", 16_000, N)
    with pytest.raises(UserError, match="must hold cuts of 8 s or more"):
        Cuts(tmp_path / "t.parquet", tmp_path / "cuts", RATE, 8 * RATE)


def test_cache_drops_recordings_beyond_its_memory_and_reads_long_ones_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.wav", 20.0, 1)
    write(tmp_path / "b.wav", 20.0, 2)
    small, large = AudioCache(RATE, memory_bytes=50_000), AudioCache(RATE)
    for cache in (small, large):
        for name, base in (("a.wav", 1000), ("b.wav", 2000), ("a.wav", 1000)):
            assert as_numbers(cache.segment(tmp_path / name, 12.5, N, 20.0))[0] == base + 10
    assert len(small._held) == 1 and len(large._held) == 2
    whole = large.segment(tmp_path / "a.wav", 12.3, N, 20.0)
    monkeypatch.setattr("birdnet_fs.motifs.tile2vec.audio_cache.LONGEST_S", 1.0)
    np.testing.assert_array_equal(large.segment(tmp_path / "a.wav", 12.3, N, 20.0), whole)
