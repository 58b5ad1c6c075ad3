"""`birdnet-fs manifest`: what it prints, writes and returns."""

import csv
import json
import sys

import numpy as np
import pytest
import soundfile as sf
import typer
from typer.testing import CliRunner

from birdnet_fs.cli.manifest import manifest
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_background, read_manifest
from birdnet_fs.schema import Data


@pytest.fixture
def app():
    app = typer.Typer()
    app.command()(manifest)
    return app


@pytest.fixture
def folder(tmp_path):
    for name in ("tit/1.wav", "tit/2.wav", "wren/3.wav", "noise/4.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "in" / name, np.random.default_rng(0).normal(0, 0.1, 36_000), 8000)
    return tmp_path


def test_clean_folder_gives_a_table(app, folder):
    result = CliRunner().invoke(app, [str(folder / "in"), "-o", str(folder / "out" / "m.csv")])
    assert result.exit_code == 0, result.output
    assert (
        "layout folders: 4 clips in 4 recordings" in result.stdout and "4 ok, 0 partial, 0 quarantined" in result.stdout
    )
    assert [line.split() for line in result.stdout.splitlines() if line.startswith("tit")] == [["tit", "2", "0.003"]]
    clips = read_manifest(Data(str(folder / "out"), table="m.csv")).clips
    assert clips == read_manifest(Data(str(folder / "in"))).clips
    with open(folder / "out" / "m.ledger.csv", encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 4


def test_bad_rows_are_listed_and_give_status_1(app, folder):
    (folder / "in" / "wren" / "bad.wav").write_bytes(b"junk" * 100)
    (folder / "in" / "loose.wav").write_bytes((folder / "in" / "tit" / "1.wav").read_bytes()[:40_000])
    arguments = [str(folder / "in"), "-o", str(folder / "m.csv")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "quarantined: 2" in result.stdout and "bad.wav: this is not audio" in result.stdout
    assert "loose.wav: its label is empty." in result.stdout
    assert (folder / "m.csv").is_file() and (folder / "m.ledger.csv").is_file()
    assert CliRunner().invoke(app, [*arguments, "--allow"]).exit_code == 0


def test_settings_and_options_are_equivalent(app, folder):
    sounds = folder / "in" / "tit"
    (sounds / "t.csv").write_text("file,kind,part\n1.wav,A,x\n2.wav,B,y\n")
    base = [str(sounds / "t.csv"), "-o", str(folder / "m.csv")]
    result = CliRunner().invoke(app, [*base, "--label-column", "kind", "--where", "part=x"])
    assert result.exit_code == 0 and "1 clips" in result.stdout
    result = CliRunner().invoke(app, [*base, "data.label_column=kind", "data.where=part=y"])
    assert result.exit_code == 0 and "B " in result.stdout
    for wrong, message in (("data.label_col=kind", "label_column"), ("training.epochs=3", "data.KEY")):
        error = CliRunner().invoke(app, [*base, wrong]).exception
        assert isinstance(error, UserError) and message in str(error)


def test_verb_imports_no_heavy_library():
    import subprocess

    code = (
        "import sys, json, birdnet_fs.cli.manifest;"
        "print(json.dumps([m for m in ('numpy', 'soundfile', 'soxr', 'keras', 'torch') if m in sys.modules]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(out) == []


def test_unreadable_tables_are_refused(app, folder):
    (folder / "in" / "notes.py").write_text("x = 1\n")
    error = CliRunner().invoke(app, [str(folder / "in" / "notes.py"), "-o", str(folder / "m.csv")]).exception
    assert isinstance(error, UserError) and "data.table must be a table of labels" in str(error)
    assert "Received: 'notes.py'" in str(error) and not (folder / "m.csv").exists()


def test_unused_and_missing_settings_are_named(app, folder):
    base = [str(folder / "in"), "-o", str(folder / "m.csv")]
    result = CliRunner().invoke(app, [*base, "--label-column", "species"])
    assert result.exit_code == 0 and "data.label_column=species is not used: in layout folders" in result.stderr
    error = CliRunner().invoke(app, [*base, "--layout", "raven"]).exception
    assert isinstance(error, UserError) and "as data.layout=raven; set data.layout=auto" in str(error)
    with pytest.raises(
        UserError, match=r"^data\.background, which is not a folder in data\.root, .* Received: 'nowhere'"
    ):
        read_background(Data(str(folder / "in"), background="nowhere"))
