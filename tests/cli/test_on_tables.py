"""`birdnet-fs segments`, `sample`, `estimate` and `camtrap` on the output of `analyze`, one after the other."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from birdnet_fs.cli.main import app
from birdnet_fs.core.errors import UserError


def birdnet_fs(*arguments: object) -> str:
    """What a command prints; it runs in this process, which has imported what it needs."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_tables_go_on_to_clips_estimates_and_a_package(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rec").mkdir()
    for hour in (5, 6):
        noise = np.random.default_rng(hour).normal(0, 0.1, 24_000)
        soundfile.write(tmp_path / "rec" / f"S4A_20240501_{hour:02d}0000.wav", noise, 8_000)
    zone = ("--timezone", "Europe/Zurich")
    birdnet_fs("analyze", untrained, "rec", "-o", "out", "--min_conf", "0", *zone)
    with open(tmp_path / "out" / "detections.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12 and rows[0]["start_time"] == "2024-05-01T05:00:00.000+02:00"
    cut = birdnet_fs("segments", "out", "-o", "clips", "--max_segments", "2", "--margin", "0")
    assert cut.startswith("4 clips; ") and len(list((tmp_path / "clips").rglob("*.wav"))) == 4
    birdnet_fs("sample", "out", "--per-class", "6", "-o", "check")
    sheet = tmp_path / "check" / "sheet.csv"
    sheet.write_text(sheet.read_text().replace(",a,,", ",a,yes,").replace(",b,,", ",b,no,"))
    printed = birdnet_fs("estimate", "check")
    assert "1.000 (1.000 to 1.000)" in printed and "0.000 (0.000 to 0.000)" in printed
    (tmp_path / "sites.csv").write_text("folder,latitude,longitude\n.,46.8,8.2\n")
    about = ("--title", "T", "--contributor", "C", "--sampling_design", "targeted", "--locations", "sites.csv")
    done = birdnet_fs("camtrap", "out", "-o", "package", *about, *zone)
    assert done.startswith("1 deployments, 2 media, 12 observations")


def test_preset_writes_the_files_of_animal_spot(
    untrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    soundfile.write(tmp_path / "tape.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 8_000)
    birdnet_fs("analyze", untrained, "tape.wav", "-o", "out", "--preset", "animal_spot")
    names = {path.name for path in (tmp_path / "out").iterdir() if path.suffix in (".txt", ".log")}
    assert names == {"tape.annotation.result.txt", "tape_predict_output.log"}
    with pytest.raises(UserError, match="must have a class noise"):
        birdnet_fs("analyze", untrained, "tape.wav", "-o", "two", "--two_stage", untrained)
