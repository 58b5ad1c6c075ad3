"""Pages of mined recordings: self-contained, with the windows marked where they are."""

import shutil
from pathlib import Path

import mined_recordings
import numpy as np
import pytest
from html_page import check_page

from birdnet_fs.motifs.matrix_profile import MatrixProfile
from birdnet_fs.motifs.mined_folder import read_recording
from birdnet_fs.reports.motifs import profile_lines, write_pages


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mined_recordings.mined(tmp_path_factory.mktemp("mined"))


def test_a_recording_has_its_windows_marked(folder: Path, tmp_path: Path) -> None:
    assert write_pages(folder, tmp_path, n_motifs=1) == (6, 2)
    html = (tmp_path / "recordings" / "owl" / "0.html").read_text(encoding="utf-8")
    assert "owl/0.wav" in check_page(html).text
    metadata = read_recording(folder / "owl" / "0").metadata
    for name in ("motif_0", "motif_1", "discord_0", "discord_1"):
        assert (
            f"left: {100 * metadata[f'{name}_s'] / 4:.3f}%; right: {100 - 100 * (metadata[f'{name}_s'] + 0.6) / 4:.3f}%"
            in html
        )
    assert html.count("<audio") == html.count("image/png") == 5  # the recording, and two clips of two pairs
    assert "<h2>Motif 1</h2>" in html and "<h2>Discord</h2>" in html and "<polyline" in html
    silent = (tmp_path / "recordings" / "wren" / "silent.html").read_text(encoding="utf-8")
    assert "No motif: it is silent, so that it has no motif." in silent and "<polyline" not in silent


def test_a_class_shows_the_motif_of_every_recording(folder: Path, tmp_path: Path, capsys) -> None:
    write_pages(folder, tmp_path / "pages")
    html = (tmp_path / "pages" / "classes" / "wren.html").read_text(encoding="utf-8")
    assert html.count("<audio") == 2 and "wren/0.wav" in html
    assert "The motif of 2 recordings; 2 have none that can be read." in html
    shutil.copytree(folder.parent / "in" / "owl", tmp_path / "moved" / "owl")
    assert write_pages(folder, tmp_path / "more", recordings=tmp_path / "moved", limit=3) == (2, 2)
    assert "wren/0.wav has no page" in capsys.readouterr().err


def test_profile_is_low_where_windows_recur() -> None:
    profile = MatrixProfile(np.array([2.0, np.inf, 0.0, 8.0]), np.array([2, -1, 0, 0]), 3)
    assert profile_lines(profile, 4.0) == ["0.0,50.0", "500.0,100.0 750.0,0.0"]
    assert profile_lines(MatrixProfile(np.full(3, np.inf), np.full(3, -1), 3), 0.0) == []
    assert profile_lines(MatrixProfile(np.zeros(0), np.zeros(0, int), 3), 0.0) == []
    (long,) = profile_lines(MatrixProfile(np.arange(2500.0), np.zeros(2500, int), 3), 0.0)
    assert long.startswith("0.0,100.0 1.2,99.9 ") and long.count(",") == 834
