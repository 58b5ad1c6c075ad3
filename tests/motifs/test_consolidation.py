"""The table of mined recordings, read by another library."""

import sys
from pathlib import Path

import mined_recordings
import numpy as np
import pandas as pd
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import write_json
from birdnet_fs.motifs import consolidation
from birdnet_fs.motifs.consolidation import consolidate
from birdnet_fs.motifs.mined_folder import mined_recordings as read_all
from birdnet_fs.motifs.motif_clips import write_top_motifs

COLUMNS = ["source_name", "cens_sample_rate", "matrix_profile_window", "sample_rate", "duration_cens"]
COLUMNS += ["duration_samples", "duration_seconds", "motif_0", "motif_1", "discord_0", "discord_1"]


def test_table_holds_a_row_for_every_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = mined_recordings.mined(tmp_path)
    monkeypatch.setattr(consolidation, "ROWS", 4)
    assert consolidate(folder, tmp_path / "all.parquet") == 6
    table = pd.read_parquet(tmp_path / "all.parquet", dtype_backend="pyarrow").set_index("source_name")
    assert {*COLUMNS, "label", "feature", "motif_0_s", "mp", "pi"} <= {*table.columns, "source_name"}
    for each in read_all(folder):
        row, profile = table.loc[each.source_name], each.profile()
        for name in (*COLUMNS[1:], "label"):
            assert (None if pd.isna(row[name]) else row[name]) == each.metadata[name]
        np.testing.assert_array_equal(row["mp"], profile.distances)
        np.testing.assert_array_equal(row["pi"], profile.neighbors)
        assert each.metadata["motif_0"] is None or row["motif_0_s"] == each.metadata["motif_0"] / 50
    assert pd.isna(table.loc["wren/short.wav", "motif_0"]) and len(table.loc["wren/short.wav", "mp"]) == 0


def test_damaged_recordings_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = mined_recordings.mined(tmp_path)
    (folder / "owl" / "0" / "metadata.json").write_text("{")
    (folder / "owl" / "1" / "pi.npy").write_bytes(b"no array")
    assert consolidate(folder, tmp_path / "all.parquet") == 4
    said = [line for line in capsys.readouterr().err.splitlines() if "is left out" in line]
    assert len(said) == 2 and "owl/0/metadata.json" in said[0] and "owl/1/pi.npy" in said[1]
    ledger = write_top_motifs(folder, tmp_path / "top")
    assert any("pi.npy cannot be read" in row.reason for row in ledger.rows)
    assert ledger.counts()["ok"] == 2


def test_nothing_to_consolidate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="written by `birdnet-fs motifs extract` was expected"):
        consolidate(tmp_path, tmp_path / "all.parquet")
    write_json(tmp_path / "settings.json", {"format": 1, "recordings": "in"})
    with pytest.raises(UserError, match="holds no mined recording"):
        consolidate(tmp_path, tmp_path / "all.parquet")
    assert not (tmp_path / "all.parquet").exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"install pyarrow with: pip install .*birdnet_fs\[motifs\]"):
        consolidate(tmp_path, tmp_path / "all.parquet")
