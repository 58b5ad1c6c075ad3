"""The table of a search, and that it becomes a table of labels when its labels are filled in."""

import csv

import numpy as np
import pytest
import soundfile

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data
from birdnet_fs.search.neighbors import FoundWindow
from birdnet_fs.search.results import refuse_labeled, write_table

FOUND = [
    FoundWindow("x/a.wav", 0.2, 0.4, 0.9, "call.wav", 2, 1),
    FoundWindow("x/a.wav", 0.6, 0.8, 0.8, "call.wav", 1, 3),
    FoundWindow("=b.wav", 0.0, 0.2, float("nan"), "", 1, 9, "different"),
]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("x/a.wav", "=b.wav"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "in" / name, rng.normal(0, 0.1, 8000), 8000)
    return tmp_path


def fill_in(path, labels):
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": label} for row, label in zip(rows, labels, strict=True))


@pytest.mark.parametrize("multi_label", [False, True])
def test_filled_in_rows_are_read_as_labels_and_empty_ones_are_left_out_by_name(folder, multi_label, capsys):
    table = folder / "found" / "neighbors.csv"
    write_table(table, FOUND, ["", "", ""], recordings=folder / "in")
    fill_in(table, ["owl", "", "tit"])
    found = read_manifest(Data(str(table.parent), table=table.name, multi_label=multi_label))
    assert [(clip.path, clip.onset_s, clip.offset_s, clip.labels) for clip in found.clips] == [
        (folder / "in" / "x" / "a.wav", 0.2, 0.4, ("owl",)),
        (folder / "in" / "=b.wav", 0.0, 0.2, ("tit",)),
    ]
    assert not found.events and "its label is empty" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds labels in 2 rows"):
        refuse_labeled(table)


def test_recordings_below_the_table_are_named_from_there(folder):
    write_table(folder / "next.csv", FOUND, ["", "c.wav", ""], recordings=folder / "in")
    with open(folder / "next.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == ["in/x/a.wav", "in/x/a.wav", "in/=b.wav"]
    assert [row["score"] for row in rows] == ["0.9000", "0.8000", ""] and rows[2]["chosen_as"] == "different"
    assert list(rows[0])[-1] == "label" and {row["label"] for row in rows} == {""}
    refuse_labeled(folder / "next.csv")
    refuse_labeled(folder / "gone.csv")


def test_recordings_are_named_as_in_the_store_without_their_folder(tmp_path):
    write_table(tmp_path / "t.csv", FOUND[:1], [""])
    assert "1,x/a.wav,0.200,0.400,0.9000,call.wav,,2,," in (tmp_path / "t.csv").read_text()
