"""Clips and tracks of motifs hold the phrase that recurs."""

import json
import shutil
from pathlib import Path

import mined_recordings
import numpy as np
import pytest
import soundfile
from mined_recordings import RATE_HZ

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.mined_folder import mined_recordings as read_all
from birdnet_fs.motifs.motif_clips import pairs_of, write_top_motifs, write_track


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mined_recordings.mined(tmp_path_factory.mktemp("mined"))


def test_top_motifs_are_cut_with_their_pairs(folder: Path, tmp_path: Path) -> None:
    ledger = write_top_motifs(folder, tmp_path)
    assert ledger.counts() == {"ok": 4, "partial": 0, "quarantined": 2}
    place = tmp_path / "owl" / "0"
    about = json.loads((place / "metadata.json").read_text())
    names = {"metadata.json", *(clip["file"] for clip in about["clips"])}
    assert names == {path.name for path in place.iterdir()}
    assert {"motif.0.ogg", "motif.0.pair.ogg", "discord.0.ogg", "discord.0.pair.ogg"} <= names
    clip, rate = soundfile.read(place / "motif.0.ogg", dtype="float32")
    assert (rate, len(clip)) == (RATE_HZ, 4 * RATE_HZ)  # the recording is shorter than 5 s
    original, _ = soundfile.read(folder.parent / "in" / "owl" / "0.wav", dtype="float32")
    assert np.corrcoef(clip, original)[0, 1] > 0.95
    written = (place / "motif.0.ogg").stat().st_mtime_ns
    assert write_top_motifs(folder, tmp_path).counts() == ledger.counts()
    assert (place / "motif.0.ogg").stat().st_mtime_ns == written
    write_top_motifs(folder, tmp_path, n_motifs=1)
    assert (place / "motif.0.ogg").stat().st_mtime_ns > written


def test_windows_of_motifs_are_named(folder: Path) -> None:
    each = next(iter(read_all(folder)))
    found = {name: frame for name, frame, _ in pairs_of(each, 1)}
    assert list(found) == ["motif.0", "motif.0.pair", "discord.0", "discord.0.pair"]
    assert list(found.values()) == [each.metadata[key] for key in ("motif_0", "motif_1", "discord_0", "discord_1")]


def test_track_begins_with_the_phrase_of_every_recording(folder: Path, tmp_path: Path) -> None:
    assert write_track(folder, tmp_path / "a.wav", index="motif_1") == 4
    track, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    assert (rate, len(track)) == (RATE_HZ, 4 * 3 * RATE_HZ)
    for i, each in enumerate(one for one in read_all(folder) if one.metadata["motif_1"] is not None):
        original, _ = soundfile.read(folder.parent / "in" / each.source_name, dtype="float32")
        start = min(round(each.metadata["motif_1_s"] * RATE_HZ), RATE_HZ)  # 3 s before the end at the latest
        expected = original[start : start + 3 * RATE_HZ]
        np.testing.assert_allclose(track[i * 3 * RATE_HZ : (i + 1) * 3 * RATE_HZ], expected, atol=1 / 32_768)


def test_recordings_that_moved_are_named_or_left_out(folder: Path, tmp_path: Path, capsys) -> None:
    shutil.copytree(folder.parent / "in" / "owl", tmp_path / "moved" / "owl")
    ledger = write_top_motifs(folder, tmp_path / "clips", recordings=tmp_path / "moved")
    assert ledger.counts() == {"ok": 2, "partial": 0, "quarantined": 4}
    assert write_track(folder, tmp_path / "a.wav", recordings=tmp_path / "moved") == 2
    assert "wren/0.wav is left out" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"No recording of .* has a motif_0 that can be read"):
        write_track(folder, tmp_path / "b.wav", recordings=tmp_path / "clips")
    assert not (tmp_path / "b.wav").exists()


def test_wrong_arguments_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--index must be one of motif_0, .*Did you mean 'motif_1'"):
        write_track(folder, tmp_path / "a.wav", index="motif_2")
    with pytest.raises(UserError, match="number of motifs must be 1 or more"):
        write_top_motifs(folder, tmp_path, n_motifs=0)
