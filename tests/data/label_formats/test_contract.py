"""Contract of every layout of labels: detected, read as the expected clips, and written and read back unchanged."""

import pytest
from label_layouts import WRITERS

from birdnet_fs.data.label_formats import EVENT_LAYOUTS, FILE_LAYOUTS, LAYOUTS, OWN_LABELS
from birdnet_fs.data.manifest import read_manifest, write_manifest
from birdnet_fs.schema import Data

EXPECTED = {
    "folders": [
        ("4", 0.0, None, (), ()),
        ("3", 0.0, None, ("A,B",), ()),
        ("1", 0.0, None, ("Parus major",), ()),
        ("2", 0.0, None, ("Parus major",), ()),
        ("5", 0.0, None, (), ()),
    ],
    "csv": [
        ("a", 0.0, None, ("Turdus, merula",), ("x", "y")),
        ("b", 0.0, None, ("Pica pica",), ("x", "z")),
        ("c", 0.0, None, (), ()),
    ],
    "birdclef": [
        ("XC1", 0.0, None, ("abc", "def", "ghi"), ("def", "ghi")),
        ("XC2", 0.0, None, ("def",), ()),
    ],
    "birdclef_soundscapes": [
        ("7019_COR_20190904", 0.0, 5.0, (), ()),
        ("7019_COR_20190904", 5.0, 10.0, ("rucwar",), ()),
        ("7843_SSW_20170325", 0.0, 5.0, ("rucwar", "obnthr1"), ()),
    ],
    "raven": [
        ("four", 2.25, 3.75, ("gretit",), ()),
        ("one", 0.5, 1.5, ("X",), ()),
        ("one", 5.0, 5.5, ("Y",), ()),
        ("three", 0.0, 3.0, ("Great Tit",), ()),
        ("two", 0.0, None, (), ()),
    ],
    "audacity": [
        ("one", 0.5, 1.5, ("X",), ()),
        ("one", 2.0, 3.0, (), ()),
        ("two", 0.0, None, (), ()),
    ],
    "dcase": [
        ("r1", 0.5, 1.0, ("AMRE",), ()),
        ("r1", 2.0, 3.0, (), ()),
        ("r1", 4.0, 5.0, ("BBWA",), ()),
    ],
    "animal_spot": [
        ("call-N4_x_12_2019_A38_100_900", 0.0, None, ("call",), ()),
        ("call-_2_2020_B1_0_9", 0.0, None, ("call",), ()),
        ("noise-boat_13_2019_A38_1000_1900", 0.0, None, (), ()),
    ],
}


def brief(manifest):
    return [(clip.path.stem, clip.onset_s, clip.offset_s, clip.labels, clip.secondary) for clip in manifest.clips]


def test_every_layout_is_tested():
    assert set(WRITERS) | {"manifest"} == set(EXPECTED) | {"manifest"} == set(LAYOUTS)
    assert {*EVENT_LAYOUTS, *FILE_LAYOUTS, *OWN_LABELS} <= set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_setting_accepts_every_layout(layout):
    assert Data(layout=layout).layout == layout


@pytest.mark.parametrize("layout", WRITERS)
def test_layout_is_detected_read_and_written_back(tmp_path, layout):
    write, multi_label = WRITERS[layout]
    write(tmp_path)
    found = read_manifest(Data(str(tmp_path), multi_label=multi_label))
    assert (found.layout, brief(found)) == (layout, EXPECTED[layout])
    assert found.ledger.counts() == {"ok": len(found.clips), "partial": 0, "quarantined": 0}
    assert found.events == (layout in EVENT_LAYOUTS)
    given = read_manifest(Data(str(tmp_path), layout=layout, multi_label=multi_label))
    assert given.clips == found.clips
    write_manifest(found, tmp_path / "manifest.csv")
    again = read_manifest(Data(str(tmp_path), table="manifest.csv", multi_label=multi_label))
    assert (again.layout, again.clips, again.classes) == ("manifest", found.clips, found.classes)
