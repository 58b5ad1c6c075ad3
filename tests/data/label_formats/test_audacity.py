"""The layout audacity: lines of label tracks."""

from label_layouts import text, tone

from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_frequency_lines_and_empty_lines_are_ignored(tmp_path):
    tone(tmp_path / "a.wav", 4.0)
    text(tmp_path / "a.txt", "0.5\t1.5\tX\t0.9876\n\\\t100\t900\n\n2\t3\tY;Z\n")
    found = read_manifest(Data(str(tmp_path), multi_label=True))
    assert [(clip.onset_s, clip.offset_s, clip.labels) for clip in found.clips] == [
        (0.5, 1.5, ("X",)),
        (2.0, 3.0, ("Y", "Z")),
    ]
    # a fourth cell, the confidence of a detection, is not part of the label, as in Audacity
    assert read_manifest(Data(str(tmp_path))).clips[1].labels == ("Y;Z",)


def test_incomplete_line_is_quarantined_with_its_row(tmp_path):
    tone(tmp_path / "a.wav", 4.0)
    text(tmp_path / "a.txt", "0.5\t1.5\tX\n2\n")
    [row] = [row for row in read_manifest(Data(str(tmp_path), multi_label=True)).ledger.rows if row.status != "ok"]
    assert row.source == "a.txt row 2" and row.reason.startswith("it must hold a start, an end and a label")
