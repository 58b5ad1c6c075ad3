"""The data folder: which table is read and tables of detections."""

import pytest
from label_layouts import text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.source import Source
from birdnet_fs.data.label_formats.table_choice import is_output
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_tables_of_detections_are_labels_only_when_the_layout_is_set(tmp_path):
    """A model must not be trained on the detections that an earlier one wrote beside the recordings."""
    for name in ("Great Tit", "Blackbird"):
        tone(tmp_path / name / "one.wav")
    table = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\n"
    row = "1\tSpectrogram 1\t1\t0.0\t0.5\t0\t8000\tGuess\n"
    (tmp_path / "Great Tit" / "one.BirdNET.selection.table.txt").write_text(table + row)
    (tmp_path / "ledger.csv").write_text("path,status,reason,flags,duration_s,source\n")
    found = read_manifest(Data(root=str(tmp_path)))
    assert (found.layout, found.classes) == ("folders", ("Blackbird", "Great Tit"))
    assert any("not used as labels" in note for note in found.notes)
    assert read_manifest(Data(root=str(tmp_path), layout="raven", table="Great Tit")).classes == ("Guess",)


def test_table_is_the_one_set_else_the_usual_name_else_the_only_one(tmp_path):
    def table(**settings) -> str | None:
        path = Source(Data(str(tmp_path), **settings), tmp_path).table_path
        return path and path.name

    assert table() is None
    text(tmp_path / "birds.csv", "path,label\n")
    assert table() == "birds.csv"
    text(tmp_path / "other.csv", "path,label\n")
    with pytest.raises(UserError, match=r"has 2 tables of labels \(birds\.csv, other\.csv\); set data\.table"):
        table()
    text(tmp_path / "labels.csv", "path,label\n")
    assert table() == "labels.csv" and table(table="other.csv") == "other.csv"
    with pytest.raises(UserError, match=r"data\.table must be a file in .*Did you mean 'other\.csv'"):
        table(table="othr.csv")


def test_outputs_of_analyze_are_recognized_by_name_or_header(tmp_path):
    for name in ("a.BirdNET.selection.table.txt", "a.annotation.result.txt", "a.BirdNET.results.kaleidoscope.csv"):
        text(tmp_path / name, "")
        assert is_output(tmp_path / name)
    text(tmp_path / "ledger.csv", "path,status,reason,flags,duration_s,source\n")
    text(tmp_path / "labels.csv", "path,label\n")
    assert is_output(tmp_path / "ledger.csv") and not is_output(tmp_path / "labels.csv")
