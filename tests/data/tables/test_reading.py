"""Text tables: encodings, separators, quotation marks, rows that do not fit the header, and what is no table."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_layouts import text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.data.tables.reading import open_table
from birdnet_fs.schema import Data


def rows_of(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    table = open_table(path, [], **options)
    return table.columns, [(row.number, dict(row.cells), row.problem) for row in table.rows()]


def cells_of(path, content, **options):
    return [cells for _, cells, problem in rows_of(path, content, **options)[1] if not problem]


@pytest.mark.parametrize(
    ("encoding", "note"),
    [("utf-8", ""), ("utf-8-sig", ""), ("cp1252", "cp1252"), ("utf-16", "UTF-16"), ("utf-16-le", "UTF-16")],
)
def test_encodings_are_recognized_and_noted(tmp_path, encoding, note):
    tone(tmp_path / "a.wav")
    text(tmp_path / "metadata.csv", "filename,label\na.wav,Fürst – Müller\n", encoding)
    found = read_manifest(Data(str(tmp_path)))
    assert found.classes == ("Fürst – Müller",)
    assert len(found.notes) == bool(note) and note in "".join(found.notes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep=\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_delimiter_is_that_of_the_header_or_of_the_sep_line(tmp_path, delimiter, first, end):
    lines = [
        first.strip() + delimiter if first else "",
        "filename%label%x",
        "a.wav%A%1,5;2" if delimiter == "\t" else "a.wav%A%1",
    ]
    content = end.join(filter(None, lines)).replace("%", delimiter) + end
    [cells] = cells_of(tmp_path / "t.csv", content)
    assert (cells["filename"], cells["label"]) == ("a.wav", "A")


def test_header_with_the_other_separator_in_its_names(tmp_path):
    columns, _ = rows_of(tmp_path / "t.csv", 'file;"start, s";"end, s";"label, english"\na.wav;1;2;robin\n')
    assert columns == ("file", "start, s", "end, s", "label, english")


def test_short_lines_are_padded_and_empty_lines_left_out(tmp_path):
    columns, rows = rows_of(tmp_path / "t.csv", "\na, b \n1\n\n , \n3,4,,\n")
    assert columns == ("a", "b")
    assert rows == [(3, {"a": "1"}, ""), (6, {"a": "3", "b": "4"}, "")]


def test_row_with_more_cells_than_columns_has_a_problem(tmp_path):
    _, rows = rows_of(tmp_path / "t.csv", "file,label\na.wav,Owl, Barn\nb.wav,wren\n")
    assert [(number, bool(problem)) for number, _, problem in rows] == [(2, True), (3, False)]
    assert "it has 3 cells, and the header 2; put cells that hold ','" in rows[0][2]


def test_quoted_cells_may_hold_separators_line_breaks_and_quotation_marks(tmp_path):
    content = 'file,label,note\n"a, b.wav",robin,"first\nsecond, ""x"""\nc.wav,wren,\n'
    assert rows_of(tmp_path / "t.csv", content)[1] == [
        (2, {"file": "a, b.wav", "label": "robin", "note": 'first\nsecond, "x"'}, ""),
        (4, {"file": "c.wav", "label": "wren"}, ""),
    ]


@pytest.mark.parametrize("last", ["e.wav,wren,1\n", 'e.wav,wren",1\n', 'e.wav,"wren,1\n'])
def test_quotation_mark_that_is_not_closed_costs_its_own_row_only(tmp_path, last):
    content = f'file,label,n\na.wav,robin,1\nb.wav,"robin,1\nc.wav,owl,1\nd.wav,owl,1\n{last}'
    _, rows = rows_of(tmp_path / "t.csv", content)
    assert [(number, cells["file"]) for number, cells, _ in rows] == [
        (i + 2, f"{c}.wav") for i, c in enumerate("abcde")
    ]
    assert "a quotation mark in it is not closed" in rows[1][2]
    assert [bool(problem) for _, _, problem in rows[:4]] == [False, True, False, False]


def test_tab_separated_table_of_raven_is_never_quoted_but_by_a_spreadsheet(tmp_path):
    content = 'Selection\tAnnotation\n1\t"whit\n2\twren" call\n3\t"Owl, Barn"\n4\t"say ""hi"", ok"\n5\t"song"\n'
    found = [cells["Annotation"] for cells in cells_of(tmp_path / "t.txt", content, raven=True)]
    assert found == ['"whit', 'wren" call', "Owl, Barn", 'say "hi", ok', '"song"']


def test_empty_file_and_two_columns_of_one_name_are_refused(tmp_path):
    for content in ("", "\n", "\ufeff\n"):
        text(tmp_path / "t.csv", content)
        with pytest.raises(UserError, match=r"t\.csv must be a CSV table with a header line; it is empty"):
            open_table(tmp_path / "t.csv", [])
    text(tmp_path / "t.csv", "file,label,label\na.wav,robin,checked\n")
    with pytest.raises(UserError, match=r"t\.csv has two columns called 'label'; rename or delete one of them"):
        open_table(tmp_path / "t.csv", [])


def test_cells_leave_out_empty_ones(tmp_path):
    text(tmp_path / "t.csv", "a,b,c\n1,,3\n")
    [row] = open_table(tmp_path / "t.csv", []).rows()
    assert row.cells == {"a": "1", "c": "3"} and len(row.cells) == 2 and "b" not in row.cells
    assert row.cells.get("b", "x") == row.cells.get("d", "x") == "x"


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff", exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=6), st.sampled_from(",;\t"))
def test_what_the_csv_module_writes_is_read_back(tmp_path_factory, rows, delimiter):
    """Cells are stripped; a line break is kept unless the lines of the cell look like rows of the table."""
    rows = [[cell.replace("\n", " ") for cell in row] for row in rows]
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([["file", "label", "note"], *rows])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    expected = [
        {name: cell.strip() for name, cell in zip(("file", "label", "note"), row, strict=True) if cell.strip()}
        for row in rows
        if any(cell.strip() for cell in row)
    ]
    assert cells_of(path, file.getvalue()) == expected
