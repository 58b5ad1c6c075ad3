"""Text tables: encodings, delimiters, names of columns, and what is no table."""

import pytest
from label_layouts import text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.tables import Table, read_table
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


@pytest.mark.parametrize(
    ("encoding", "note"), [("utf-8", ""), ("utf-8-sig", ""), ("cp1252", "cp1252"), ("utf-16", "UTF-16")]
)
def test_encodings_are_recognized_and_noted(tmp_path, encoding, note):
    tone(tmp_path / "a.wav")
    text(tmp_path / "metadata.csv", "filename,label\na.wav,Fürst – Müller\n", encoding)
    found = read_manifest(Data(str(tmp_path)))
    assert found.classes == ("Fürst – Müller",)
    assert len(found.notes) == bool(note) and note in "".join(found.notes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiter_is_that_of_the_header(tmp_path, delimiter):
    tone(tmp_path / "a.wav")
    text(
        tmp_path / "metadata.csv",
        delimiter.join(["filename", "label", "x"]) + "\n" + delimiter.join(["a.wav", "A", "1"]),
    )
    assert read_manifest(Data(str(tmp_path))).classes == ("A",)


def test_short_lines_are_padded_and_empty_lines_left_out(tmp_path):
    text(tmp_path / "t.csv", "a, b \n1\n\n , \n3,4,5\n")
    table = read_table(tmp_path / "t.csv", [])
    assert table == Table("t.csv", ("a", "b"), ((2, {"a": "1", "b": ""}), (5, {"a": "3", "b": "4"})))


def test_column_is_found_exactly_before_ignoring_case():
    table = Table("t", ("File", "file", "Label"), ())
    assert [table.column(names) for names in (["file"], ["FILE"], ["x", "label"], ["x"])] == [
        "file",
        "File",
        "Label",
        "",
    ]


def test_empty_file_is_refused(tmp_path):
    text(tmp_path / "t.csv", "\n")
    with pytest.raises(UserError, match=r"t\.csv must be a CSV table with a header line; it is empty"):
        read_table(tmp_path / "t.csv", [])
