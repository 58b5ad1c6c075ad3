"""Cuts of triplets: places, padding, resuming and audio that moved."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.extract_triplets import CUT_S, cut_file, extract_triplets, found_cuts, read_facts
from birdnet_fs.motifs.triplets import Triplet, write_triplets

RATE = 8000


def ramp(path: Path, seconds: float) -> np.ndarray:
    """A recording whose samples are all different."""
    path.parent.mkdir(exist_ok=True, parents=True)
    samples = (np.arange(round(seconds * RATE)) % 65_000 - 32_000).astype(np.int16)
    soundfile.write(path, samples, RATE)
    return samples


@pytest.fixture
def table(tmp_path: Path) -> Path:
    triplets = [
        Triplet("a/long.wav", 5.0, "a/long.wav", 0.0, "b/short.wav", 1.0),
        Triplet("a/long.wav", 15.0, "a/gone.wav", 0.0, "b/short.wav", 0.0),
        Triplet("a/long.wav", 30.0, "a/long.wav", 0.0, "b/short.wav", 0.0),
        Triplet("a/long.wav", 15.0, "a/broken.wav", 0.0, "b/short.wav", 0.0),
        Triplet("a/long.wav", 15.0, "a/long.wav", 5.0, "b/short.wav", 0.0),
    ]
    write_triplets(triplets, tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def test_cuts_begin_one_second_before_the_motif_and_stay_inside(tmp_path: Path, table: Path) -> None:
    long, short = ramp(tmp_path / "audio/a/long.wav", 20.0), ramp(tmp_path / "audio/b/short.wav", 3.0)
    (tmp_path / "audio/a/broken.wav").write_bytes(b"RIFF" + bytes(100))
    out = tmp_path / "cuts"
    ledger = extract_triplets(table, tmp_path / "audio", out, sample_rate_hz=RATE)
    assert [row.status for row in ledger.rows] == ["ok", "quarantined", "quarantined", "quarantined", "ok"]
    assert "lasts 20.0 s, and the place is at 30.0 s" in ledger.rows[2].reason
    assert "row 1" in ledger.rows[1].source and ledger.rows[1].reason
    assert (out / "ledger.csv").read_text().count("quarantined") == 3
    n = round(CUT_S * RATE)
    first, last = np.load(cut_file(out, 0)), np.load(cut_file(out, 4))
    assert first.shape == (3, n) and first.dtype == np.int16
    np.testing.assert_array_equal(first[0], long[4 * RATE : 4 * RATE + n])
    np.testing.assert_array_equal(first[1], long[:n])  # at the start: moved inside
    np.testing.assert_array_equal(first[2], np.pad(short, (0, n - len(short))))
    np.testing.assert_array_equal(last[0], long[-n:])  # at the end: moved inside
    assert found_cuts(out, range(5)) == [0, 4]


def test_resuming_writes_what_is_missing_and_another_table_is_refused(tmp_path: Path, table: Path) -> None:
    ramp(tmp_path / "audio/a/long.wav", 20.0)
    ramp(tmp_path / "audio/b/short.wav", 3.0)
    out = tmp_path / "cuts"
    extract_triplets(table, tmp_path / "audio", out, sample_rate_hz=RATE)
    kept = cut_file(out, 0).stat().st_mtime_ns
    ramp(tmp_path / "audio/a/gone.wav", 9.0)
    ledger = extract_triplets(table, tmp_path / "audio", out, sample_rate_hz=RATE)
    assert ledger.counts()["ok"] == 3 and cut_file(out, 0).stat().st_mtime_ns == kept
    assert read_facts(out)["n"] == 5
    with pytest.raises(UserError, match="another table, rate or length"):
        extract_triplets(table, tmp_path / "audio", out, sample_rate_hz=RATE, cut_s=6.0)
    with pytest.raises(UserError, match="there is no such folder"):
        extract_triplets(table, tmp_path / "none", tmp_path / "other")
    with pytest.raises(UserError, match="above 0 s"):
        extract_triplets(table, tmp_path / "audio", tmp_path / "other", cut_s=0.0)
    with pytest.raises(UserError, match="holds no extracted triplets"):
        read_facts(tmp_path)
