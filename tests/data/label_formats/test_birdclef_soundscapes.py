"""The layout birdclef_soundscapes: train_soundscape_labels.csv of BirdCLEF-2021."""

import pytest
from label_layouts import as_birdclef, as_birdclef_soundscapes, text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data

HEAD = "row_id,site,audio_id,seconds,birds\n"


def test_windows_of_a_recording_are_one_group(tmp_path):
    as_birdclef_soundscapes(tmp_path)
    found = read_manifest(Data(str(tmp_path), multi_label=True))
    assert found.events
    assert len({clip.recording_group for clip in found.clips}) == 2
    assert found.clips[0].row["row_id"] == "7019_COR_5"


def test_two_birds_need_several_labels(tmp_path):
    as_birdclef_soundscapes(tmp_path)
    found = read_manifest(Data(str(tmp_path)))
    assert [row.reason for row in found.ledger.rows if row.status == "quarantined"] == [
        "it has 2 labels ('rucwar', 'obnthr1'); set data.multi_label=true to use them."
    ]


def test_rows_without_recording_site_or_window_are_refused_one_by_one(tmp_path):
    for name in ("1_COR_20190904", "1_COR_20190905", "2_SSW_20170325", "3_COR_20190904"):
        tone(tmp_path / f"train_soundscapes/{name}.ogg", 6.0)
    rows = "a,COR,1,5,nocall\nb,COR,2,5,nocall\nc,SSW,2,4,nocall\nd,COR,3,x,nocall\ne,COR,3,5,\nf,COR,3,5,norcar\n"
    text(tmp_path / "train_soundscape_labels.csv", HEAD + rows)
    found = read_manifest(Data(str(tmp_path)))
    assert [clip.labels for clip in found.clips] == [("norcar",)]
    reasons = [row.reason for row in found.ledger.rows if row.status == "quarantined"]
    assert reasons[0].startswith("several audio files are called 1_COR_*: ")
    assert reasons[1] == "no audio file is called 2_COR_*."
    assert reasons[2] == "its seconds must be the end of a window, 5 or more. Received: '4'"
    assert reasons[3] == "its seconds must be the end of a window, 5 or more. Received: 'x'"
    assert reasons[4:] == ["its label is empty."]


def test_the_table_of_clips_is_read_where_both_are_there(tmp_path):
    as_birdclef(tmp_path)
    as_birdclef_soundscapes(tmp_path)
    assert read_manifest(Data(str(tmp_path), multi_label=True)).layout == "birdclef"
    given = read_manifest(Data(str(tmp_path), table="train_soundscape_labels.csv", multi_label=True))
    assert (given.layout, given.classes) == ("birdclef_soundscapes", ("obnthr1", "rucwar"))


def test_another_table_is_refused_when_the_layout_is_set(tmp_path):
    as_birdclef(tmp_path)
    with pytest.raises(UserError, match=r"columns row_id, audio_id, seconds and birds; set data.table. Received: prim"):
        read_manifest(Data(str(tmp_path), layout="birdclef_soundscapes"))
