"""Every layout of labels gives the same kind of clips, and every one survives writing and reading back."""

import csv

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats import LAYOUTS
from birdnet_fs.data.manifest import read_background, read_manifest, write_manifest
from birdnet_fs.schema import Data


def tone(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, 0.1 * np.sin(np.arange(round(seconds * 8000)) * 0.3), 8000)


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def as_folders(root):
    for name in ("Parus major/1.wav", "Parus major/deep/2.wav", "A,B/3.wav", "-A/4.wav", "noise/5.wav"):
        tone(root / name)


def as_csv(root):
    for name in ("a", "b", "c"):
        tone(root / f"sounds/{name}.wav")
    text(
        root / "metadata.csv",
        "File,species,secondary,site,fold,split\n"
        "sounds/a.wav,\"Turdus, merula\",['x'; 'y'],s1,0,train\n"
        "b.wav,Pica pica,\"['x', 'z']\",s1,1,test\n"
        "c,nocall,,s2,,\n",
    )


def as_birdclef(root):
    tone(root / "train_audio/abc/XC1.ogg")
    tone(root / "train_audio/def/XC2.ogg")
    text(
        root / "train.csv",
        "primary_label,secondary_labels,filename,author\nabc,\"['def', 'ghi']\",abc/XC1.ogg,M\ndef,[],def/XC2.ogg,N\n",
    )


def as_raven(root):
    head = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
    for name in ("one", "two", "three", "four"):
        tone(root / f"audio/{name}.wav", 6.0)
    text(
        root / "tables/one.Table.1.selections.txt",
        head + "1\tSpectrogram 1\t1\t0.5\t1.5\tX\n1\tWaveform 1\t1\t0.5\t1.5\tX\n2\tSpectrogram 1\t1\t5\t5.5\tY\n",
    )
    text(root / "tables/two.selections.txt", head)
    text(
        root / "tables/three.selections.txt",
        "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\n1\t0\t3\tGreat Tit\n",
    )
    text(
        root / "tables/all.txt",
        "Selection\tBegin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies Code\n"
        "1\t66\t67.5\tfour.wav\t2.25\tgretit\n",
    )


def as_audacity(root):
    tone(root / "one.wav", 6.0)
    tone(root / "two.wav")
    text(root / "one.txt", "0.5\t1.5\tX\n\\\t100\t900\n2.0\t3.0\tnoise\n")
    text(root / "two.txt", "")


def as_dcase(root):
    tone(root / "BV/r1.wav", 6.0)
    text(
        root / "BV/r1.csv",
        "Audiofilename,Starttime,Endtime,AMRE,BBWA\nr1.wav,0.5,1.0,POS,NEG\nr1.wav,2,3,UNK,UNK\nr1.wav,4,5,NEG,POS\n",
    )


def as_animal_spot(root):
    for name in (
        "call-N4_x_12_2019_A38_100_900.wav",
        "noise-boat_13_2019_A38_1000_1900.wav",
        "call-_2_2020_B1_0_9.wav",
    ):
        tone(root / name)


WRITERS = {
    "folders": (as_folders, False),
    "csv": (as_csv, False),
    "birdclef": (as_birdclef, True),
    "raven": (as_raven, True),
    "audacity": (as_audacity, True),
    "dcase": (as_dcase, True),
    "animal_spot": (as_animal_spot, False),
}


def brief(manifest):
    return [(clip.path.stem, clip.onset_s, clip.offset_s, clip.labels, clip.secondary) for clip in manifest.clips]


EXPECTED = {
    "folders": [
        ("4", 0.0, None, (), ()),
        ("3", 0.0, None, ("A",), ("B",)),
        ("1", 0.0, None, ("Parus major",), ()),
        ("2", 0.0, None, ("Parus major",), ()),
        ("5", 0.0, None, (), ()),
    ],
    "csv": [
        ("a", 0.0, None, ("Turdus, merula",), ("['x'", "'y']")),
        ("b", 0.0, None, ("Pica pica",), ("x", "z")),
        ("c", 0.0, None, (), ()),
    ],
    "birdclef": [
        ("XC1", 0.0, None, ("abc", "def", "ghi"), ("def", "ghi")),
        ("XC2", 0.0, None, ("def",), ()),
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


def test_every_layout_is_tested():
    assert set(WRITERS) | {"manifest"} == set(LAYOUTS)


@pytest.mark.parametrize("layout", WRITERS)
def test_layout_is_found_and_read_and_comes_back(tmp_path, layout):
    write, multi_label = WRITERS[layout]
    write(tmp_path)
    found = read_manifest(Data(str(tmp_path), multi_label=multi_label))
    assert (found.layout, brief(found)) == (layout, EXPECTED[layout])
    assert found.ledger.counts() == {"ok": len(found.clips), "partial": 0, "quarantined": 0}
    assert found.events == (layout in ("raven", "audacity", "dcase"))
    given = read_manifest(Data(str(tmp_path), layout=layout, multi_label=multi_label))
    assert given.clips == found.clips
    write_manifest(found, tmp_path / "manifest.csv")
    again = read_manifest(Data(str(tmp_path), table="manifest.csv", multi_label=multi_label))
    assert (again.layout, again.clips, again.classes) == ("manifest", found.clips, found.classes)


def test_a_manifest_of_an_earlier_version_gives_the_same_clips(tmp_path):
    """It had one more column between ours, for labels that are known to be absent."""
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


def test_groups_folds_and_splits(tmp_path):
    as_csv(tmp_path / "csv")
    found = read_manifest(Data(str(tmp_path / "csv"), group_column="site"))
    assert [(c.group, c.fold, c.split) for c in found.clips] == [
        ("s1", 0, "train"),
        ("s1", 1, "test"),
        ("s2", None, ""),
    ]
    as_animal_spot(tmp_path / "spot")
    groups = [clip.group for clip in read_manifest(Data(str(tmp_path / "spot"))).clips]
    assert groups == ["2019_A38", "2020_B1", "2019_A38"]
    as_folders(tmp_path / "folders")
    assert read_manifest(Data(str(tmp_path / "folders"))).clips[0].group == "-A/4.wav"
    with pytest.raises(UserError, match=r"no column 'sight'. Did you mean 'site'"):
        read_manifest(Data(str(tmp_path / "csv"), group_column="sight"))
    with pytest.raises(UserError, match=r"no column 'specie'. Did you mean 'species'"):
        read_manifest(Data(str(tmp_path / "csv"), label_column="specie"))


def test_where(tmp_path):
    as_csv(tmp_path)
    chosen = read_manifest(Data(str(tmp_path), where="site=s1,split=train|val"))
    assert [clip.path.name for clip in chosen.clips] == ["a.wav"]
    with pytest.raises(UserError, match=r"has no column 'sites'. Did you mean 'site'"):
        read_manifest(Data(str(tmp_path), where="sites=s1"))
    with pytest.raises(UserError, match=r"chooses none of the 3 rows .*site has s1, s2"):
        read_manifest(Data(str(tmp_path), where="site=s3"))
    with pytest.raises(UserError, match="column=value"):
        read_manifest(Data(str(tmp_path), where="site"))
    background = read_background(Data(str(tmp_path), background="site=s1"))
    assert [clip.labels for clip in background.clips] == [(), ()]
    assert read_background(Data(str(tmp_path))).clips == ()
    tone(tmp_path / "quiet" / "night" / "n.wav")
    tone(tmp_path / "quiet" / "m.wav")
    for folder in ("quiet", str(tmp_path / "quiet")):
        found = read_background(Data(str(tmp_path), where="site=s1", background=folder)).clips
        assert [(clip.path.name, clip.labels) for clip in found] == [("m.wav", ()), ("n.wav", ())]


@pytest.mark.parametrize(
    ("encoding", "note"), [("utf-8", ""), ("utf-8-sig", ""), ("cp1252", "cp1252"), ("utf-16", "UTF-16")]
)
def test_encodings_of_a_table(tmp_path, encoding, note):
    tone(tmp_path / "a.wav")
    text(tmp_path / "metadata.csv", "filename,label\na.wav,Fürst – Müller\n", encoding)
    found = read_manifest(Data(str(tmp_path)))
    assert found.classes == ("Fürst – Müller",)
    assert len(found.notes) == bool(note) and note in "".join(found.notes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters(tmp_path, delimiter):
    tone(tmp_path / "a.wav")
    text(
        tmp_path / "metadata.csv",
        delimiter.join(["filename", "label", "x"]) + "\n" + delimiter.join(["a.wav", "A", "1"]),
    )
    assert read_manifest(Data(str(tmp_path))).classes == ("A",)


def test_labels_that_need_care_come_back(tmp_path):
    for name in ("a", "b", "c"):
        tone(tmp_path / f"{name}.wav")
    text(tmp_path / "t.csv", 'path,label\na.wav,"x;y"\nb.wav,[odd]\nc.wav,"say ""hi"", ok"\n')
    found = read_manifest(Data(str(tmp_path), table="t.csv"))
    assert [clip.labels for clip in found.clips] == [("x;y",), ("[odd]",), ('say "hi", ok',)]
    write_manifest(found, tmp_path / "m" / "manifest.csv")  # the audio is elsewhere: absolute paths
    again = read_manifest(Data(str(tmp_path / "m")))
    assert [clip.labels for clip in again.clips] == [clip.labels for clip in found.clips]
    assert [clip.path for clip in again.clips] == [clip.path for clip in found.clips]


@pytest.mark.shared
def test_real_tables(shared_data):
    data = Data(str(shared_data), table="metadata.csv", audio="audio", where="set=birds10")
    found = read_manifest(data)
    assert len(found.clips) == 100 and len(found.classes) == 10 and not found.events
    assert {clip.fold for clip in found.clips} == {0, 1, 2, 3, 4} and len({clip.group for clip in found.clips}) > 90
    assert found.hours_per_class()["Junco hyemalis"] == pytest.approx(10 * 6 / 3600)
    weak = Data(str(shared_data), table="metadata.csv", audio="audio", where="set=spinetail", multi_label=True)
    assert read_manifest(weak).clips[0].labels == ("CRER", "SP")
    timed = Data(str(shared_data), table="annotations.csv", audio="audio", where="set=spinetail", multi_label=True)
    raven = Data(str(shared_data), table="raven", audio="audio", multi_label=True)
    events = read_manifest(timed)
    selections = [clip for clip in read_manifest(raven).clips if clip.path.stem == "spinetail"]
    assert events.events and len(events.clips) == len(selections) == 18
    assert [clip.labels for clip in events.clips] == [clip.labels for clip in selections]


def test_tables_of_a_detector_are_labels_only_when_asked_for(tmp_path):
    """A run must not learn from what an earlier run wrote beside the recordings."""
    for name in ("Great Tit", "Blackbird"):
        tone(tmp_path / name / "one.wav")
    table = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\n"
    row = "1\tSpectrogram 1\t1\t0.0\t0.5\t0\t8000\tGuess\n"
    (tmp_path / "Great Tit" / "one.BirdNET.selection.table.txt").write_text(table + row)
    (tmp_path / "ledger.csv").write_text("path,status,reason,flags,duration_s,source\n")
    found = read_manifest(Data(root=str(tmp_path)))
    assert (found.layout, found.classes) == ("folders", ("Blackbird", "Great Tit"))
    assert any("not taken as labels" in note for note in found.notes)
    assert read_manifest(Data(root=str(tmp_path), layout="raven", table="Great Tit")).classes == ("Guess",)
