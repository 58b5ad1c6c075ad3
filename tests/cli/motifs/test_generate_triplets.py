"""`birdnet-fs motifs generate-triplets` and `extract-triplets` as a user runs them."""

import datetime
import sys
from pathlib import Path

import numpy as np
import profile_tables
import pytest

from birdnet_fs.cli.main import main
from birdnet_fs.motifs.triplets import read_triplets


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["birdnet-fs", "motifs", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_triplets_are_drawn_by_family_and_extracted(tmp_path: Path, monkeypatch, capsys) -> None:
    table, audio = profile_tables.write(tmp_path)
    families = tmp_path / "families.csv"
    families.write_text("class,family\nbird0,a\nbird1,a\nbird2,b\n")
    assert run(monkeypatch, "generate-triplets", table, "--samples", "1e1", "--families", families, "-o", tmp_path) == 0
    printed = capsys.readouterr()
    file = tmp_path / f"{datetime.date.today().isoformat()}-motif-triplets-1e+01.parquet"
    assert printed.out.strip() == str(file) and "by species" not in printed.err
    found = read_triplets(file)
    assert len(found) == 10 and {(t.a[:5] == "bird2") != (t.c[:5] == "bird2") for t in found} == {True}
    assert run(monkeypatch, "extract-triplets", file, audio) == 0
    assert "10 ok, 0 quarantined" in capsys.readouterr().out
    cut = np.load(file.with_suffix("") / "000" / "000003.npy")
    assert cut.shape == (3, 224_000) and cut.dtype == np.int16 and np.abs(cut).max() > 3000
    assert run(monkeypatch, "generate-triplets", table, "--samples", "1e1", "-o", tmp_path) == 2
    assert "exists already" in capsys.readouterr().err


def test_species_are_the_groups_without_a_table_of_families(tmp_path: Path, monkeypatch, capsys) -> None:
    table, _ = profile_tables.write(tmp_path)
    assert run(monkeypatch, "generate-triplets", table, "--samples", "30", "-o", tmp_path / "out") == 0
    assert "Triplets are drawn by species; give --families for families." in capsys.readouterr().err
    (file,) = (tmp_path / "out").iterdir()
    assert all(t.a[:5] == t.b[:5] != t.c[:5] for t in read_triplets(file))
    assert run(monkeypatch, "extract-triplets", file, tmp_path / "moved") == 2
    (tmp_path / "moved").mkdir()
    assert run(monkeypatch, "extract-triplets", file, tmp_path / "moved") == 1
    assert "0 ok, 30 quarantined" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--by", "family"], "--by family needs --families"),
        (["--by", "genus"], "--by must be family or species. Received: 'genus'"),
        (["--by", "species", "--families", "f.csv"], "leave one of them out"),
        (["--samples", "few"], "--samples must be a whole number"),
    ],
)
def test_unclear_options_are_refused(options: list[str], words: str, tmp_path: Path, monkeypatch, capsys) -> None:
    assert run(monkeypatch, "generate-triplets", tmp_path / "none.parquet", *options) == 2
    assert words in capsys.readouterr().err
