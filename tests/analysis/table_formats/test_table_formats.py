"""The exact text of every output format, written by hand."""

import csv
import io
import os
from pathlib import Path

import pytest

from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.table_formats import FORMATS, check_formats
from birdnet_fs.analysis.table_formats.text import seconds, split_label
from birdnet_fs.core.errors import UserError

SCORED = RecordingDetections(
    path=Path("/rec/site 1/a.wav"),
    root=Path("/rec"),
    low_hz=50.0,
    high_hz=14_000.0,
    detections=(
        Detection(0.0, 5.0, "Turdus merula_Eurasian Blackbird", 0.98765),
        Detection(2.5, 7.5, "nocall", 0.25),
        Detection(3600.0, 3601.234567, 'Odd, "name"_Some, bird', 1.0),
    ),
)

EXPECTED = {
    "raven": (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
        "Species Code\tConfidence\tBegin Path\tFile Offset (s)\n"
        "1\tSpectrogram 1\t1\t0.0\t5.0\t50\t14000\tEurasian Blackbird\t"
        "Turdus merula_Eurasian Blackbird\t0.9877\t/rec/site 1/a.wav\t0.0\n"
        "2\tSpectrogram 1\t1\t2.5\t7.5\t50\t14000\tnocall\tnocall\t0.2500\t/rec/site 1/a.wav\t2.5\n"
        "3\tSpectrogram 1\t1\t3600.0\t3601.234567\t50\t14000\tSome, bird\t"
        'Odd, "name"_Some, bird\t1.0000\t/rec/site 1/a.wav\t3600.0\n'
    ),
    "csv": (
        "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
        "0.0,5.0,Turdus merula,Eurasian Blackbird,0.9877,/rec/site 1/a.wav\n"
        "2.5,7.5,nocall,nocall,0.2500,/rec/site 1/a.wav\n"
        '3600.0,3601.234567,"Odd, ""name""","Some, bird",1.0000,/rec/site 1/a.wav\n'
    ),
    "audacity": (
        '0.0\t5.0\tTurdus merula_Eurasian Blackbird\n2.5\t7.5\tnocall\n3600.0\t3601.234567\tOdd, "name"_Some, bird\n'
    ),
    "kaleidoscope": (
        "INDIR,FOLDER,IN FILE,OFFSET,DURATION,TOP1MATCH,TOP1DIST\n"
        "/rec,site 1,a.wav,0.0,5.0,Turdus merula_Eurasian Blackbird,0.0123\n"
        "/rec,site 1,a.wav,2.5,5.0,nocall,0.7500\n"
        '/rec,site 1,a.wav,3600.0,1.234567,"Odd, ""name""_Some, bird",0.0000\n'
    ),
    "birdnet": (
        "input,start_time,end_time,species_name,confidence\n"
        "/rec/site 1/a.wav,00:00:00.00,00:00:05.00,Turdus merula_Eurasian Blackbird,0.9877\n"
        "/rec/site 1/a.wav,00:00:02.50,00:00:07.50,nocall,0.2500\n"
        '/rec/site 1/a.wav,01:00:00.00,01:00:01.23,"Odd, ""name""_Some, bird",1.0000\n'
    ),
    "animal_spot": (
        "Selection\tView\tChannel\tBegin time (s)\tEnd time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSound type\tComments\n"
        "1\tSpectrogram 1\t1\t0.0\t5.0\t50\t14000\tTurdus merula_Eurasian Blackbird\t0.9877\n"
        "2\tSpectrogram 1\t1\t2.5\t7.5\t50\t14000\tnocall\t0.2500\n"
        '3\tSpectrogram 1\t1\t3600.0\t3601.234567\t50\t14000\tOdd, "name"_Some, bird\t1.0000\n'
    ),
}


def test_every_format_has_its_expected_text():
    assert set(EXPECTED) == set(FORMATS)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
@pytest.mark.parametrize("name", FORMATS)
def test_exact_text(name):
    assert FORMATS[name].render(SCORED) == EXPECTED[name]


@pytest.mark.parametrize("name", FORMATS)
def test_without_detections_the_header_alone(name):
    empty = RecordingDetections(SCORED.path, SCORED.root, 50.0, 14_000.0, ())
    assert FORMATS[name].render(empty) == ("" if name == "audacity" else EXPECTED[name].splitlines(True)[0])


def test_raven_is_read_back_by_a_plain_reader():
    rows = list(csv.DictReader(io.StringIO(FORMATS["raven"].render(SCORED)), delimiter="\t"))
    found = [(float(r["Begin Time (s)"]), float(r["End Time (s)"]), r["Species Code"]) for r in rows]
    assert found == [(d.onset_s, d.offset_s, d.label) for d in SCORED.detections]
    assert [r["Selection"] for r in rows] == ["1", "2", "3"]
    assert {r["Begin Path"] for r in rows} == {"/rec/site 1/a.wav"}


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("audacity", "animal_spot")])  # these name no file
def test_odd_file_names_stay_in_their_field(name):
    odd = Path(os.fsdecode(b"/rec/a\tb\nc\r\xff,\xc3\xa9.wav"))
    detection = (Detection(0.0, 1.0, "x", 0.5),)
    text = FORMATS[name].render(RecordingDetections(odd, Path("/rec"), 0.0, 1000.0, detection))
    delimiter = "\t" if name == "raven" else ","
    header, row = csv.reader(io.StringIO(text), delimiter=delimiter)
    assert len(header) == len(row)
    assert text.encode("utf-8").count(b"\n") == 2
    assert r"a\tb\nc\r\udcff,é.wav" in "".join(row)


def test_labels_and_times():
    assert split_label("Turdus merula_Eurasian Blackbird") == ("Turdus merula", "Eurasian Blackbird")
    assert split_label("Genus species_name_with_more") == ("Genus species", "name_with_more")
    for plain in ("nocall", "bird0_0", "_x", "X_", ""):
        assert split_label(plain) == (plain, plain)
    assert [seconds(v) for v in (0, 3, 2.5, 1 / 3, 86_399.999999)] == ["0.0", "3.0", "2.5", "0.333333", "86399.999999"]


def test_format_names():
    assert check_formats(["raven", "csv", "raven"]) == ("raven", "csv")
    with pytest.raises(UserError, match=r"Unknown output format 'ravn'; .*Did you mean 'raven'\?"):
        check_formats(["ravn"])
    with pytest.raises(UserError, match="At least one output format"):
        check_formats([])
    assert len({f.suffix for f in FORMATS.values()}) == len(FORMATS)
