"""The layout manifest.csv: earlier versions of the file, labels that need quoting, and columns of the table."""

import csv

from label_layouts import as_folders, text, tone

from birdnet_fs.data.label_formats.manifest_csv import COLUMNS
from birdnet_fs.data.manifest import read_manifest, write_manifest
from birdnet_fs.schema import Data


def test_manifest_of_an_earlier_version_gives_the_same_clips(tmp_path):
    """Earlier versions had one more column, for labels that are known to be absent."""
    as_folders(tmp_path)
    found = read_manifest(Data(str(tmp_path)))
    write_manifest(found, tmp_path / "manifest.csv")
    with open(tmp_path / "manifest.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    place = rows[0].index("secondary") + 1
    for row in rows:
        row.insert(place, "negatives" if row is rows[0] else "A;B")
    with open(tmp_path / "manifest.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    again = read_manifest(Data(str(tmp_path), table="manifest.csv"))
    assert (again.layout, again.clips, again.classes) == ("manifest", found.clips, found.classes)


def test_labels_with_semicolons_brackets_and_quotes_are_written_back(tmp_path):
    for name in ("a", "b", "c"):
        tone(tmp_path / f"{name}.wav")
    text(tmp_path / "t.csv", 'path,label\na.wav,"x;y"\nb.wav,[odd]\nc.wav,"say ""hi"", ok"\n')
    found = read_manifest(Data(str(tmp_path), table="t.csv"))
    assert [clip.labels for clip in found.clips] == [("x;y",), ("[odd]",), ('say "hi", ok',)]
    write_manifest(found, tmp_path / "m" / "manifest.csv")  # the audio is elsewhere: absolute paths
    again = read_manifest(Data(str(tmp_path / "m")))
    assert [clip.labels for clip in again.clips] == [clip.labels for clip in found.clips]
    assert [clip.path for clip in again.clips] == [clip.path for clip in found.clips]


def test_other_columns_of_the_table_are_written_back(tmp_path):
    tone(tmp_path / "a.wav")
    text(tmp_path / "t.csv", "path,label,site\na.wav,A,pond\n")
    found = read_manifest(Data(str(tmp_path), table="t.csv"))
    write_manifest(found, tmp_path / "manifest.csv")
    with open(tmp_path / "manifest.csv", encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == [*COLUMNS, "row.path", "row.label", "row.site"]
    assert read_manifest(Data(str(tmp_path), table="manifest.csv")).clips[0].row["site"] == "pond"
