"""CSV files whose rows survive every name: what is written is read back by the csv module and by pandas."""

import csv
import io
from pathlib import Path

import pandas
import pytest

from birdnet_fs.core.csv_files import csv_dict_writer, csv_writer

PACKAGE = Path(__file__).parents[2] / "birdnet_fs"
NAMES = [
    "a\rb.wav",
    "\r",
    "a\r\nb.wav",
    "a\nb.wav",
    ' "quoted", ',
    "a;b\tc.wav",
    "\u2028\x85.wav",
    "",
    "é鳥 [1].wav",
    "caf\udce9",
]


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_every_name_is_one_cell_of_one_row(tmp_path, delimiter):
    path = tmp_path / "t.csv"
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv_writer(file, delimiter=delimiter).writerows([("path", "n"), *((name, i) for i, name in enumerate(NAMES))])
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file, delimiter=delimiter))
    assert rows == [["path", "n"], *([name, str(i)] for i, name in enumerate(NAMES))]
    frame = pandas.read_csv(path, sep=delimiter, keep_default_na=False, encoding_errors="replace")
    assert len(frame) == len(NAMES) and frame["n"].tolist() == list(range(len(NAMES)))


def test_plain_rows_end_in_a_line_feed_and_missing_cells_are_empty():
    text = io.StringIO()
    writer = csv_dict_writer(text, ["a", "b"])
    writer.writeheader()
    writer.writerow({"b": "x\ry"})
    assert text.getvalue() == 'a,b\n,"x\ry"\n'


def test_every_csv_of_the_package_is_written_by_this_module():
    users = [f for f in PACKAGE.rglob("*.py") if "csv.writer(" in (t := f.read_text()) or "csv.DictWriter(" in t]
    assert [file.name for file in users] == ["csv_files.py"]
