"""Contract of every table format: a test of its text, no detections, odd file names, and names of formats."""

import csv
import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from detections import RECORDING

from birdnet_fs.analysis.detections import Detection, RecordingDetections
from birdnet_fs.analysis.table_formats import FORMATS, check_formats
from birdnet_fs.core.errors import UserError


@pytest.mark.parametrize("name", FORMATS)
def test_format_has_its_own_file_and_test_of_its_text(name):
    assert FORMATS[name].render.__module__ == f"birdnet_fs.analysis.table_formats.{name}"
    assert "def test_text_is_exact" in (Path(__file__).parent / f"test_{name}.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FORMATS)
def test_recording_without_detections_gives_the_header_only(name):
    header = "" if name == "audacity" else FORMATS[name].render(RECORDING).splitlines(True)[0]
    assert FORMATS[name].render(replace(RECORDING, detections=())) == header


@pytest.mark.parametrize("name", FORMATS)
def test_every_detection_is_one_line(name):
    n_lines = FORMATS[name].render(RECORDING).count("\n")
    assert n_lines == len(RECORDING.detections) + (name != "audacity")


@pytest.mark.parametrize("name", [n for n in FORMATS if n not in ("audacity", "animal_spot")])  # these name no file
def test_odd_file_names_stay_in_their_field(name: str):
    odd = Path(os.fsdecode(b"/rec/a\tb\nc\r\xff,\xc3\xa9.wav"))
    detection = (Detection(0.0, 1.0, "x", 0.5),)
    text = FORMATS[name].render(RecordingDetections(odd, Path("/rec"), 0.0, 1000.0, detection))
    delimiter = "\t" if name == "raven" else ","
    header, row = csv.reader(io.StringIO(text), delimiter=delimiter)
    assert len(header) == len(row)
    assert text.encode("utf-8").count(b"\n") == 2
    assert r"a\tb\nc\r\udcff,é.wav" in "".join(row)


def test_check_formats_refuses_unknown_names():
    assert check_formats(["raven", "csv", "raven"]) == ("raven", "csv")
    with pytest.raises(UserError, match=r"Unknown output format 'ravn'; .*Did you mean 'raven'\?"):
        check_formats(["ravn"])
    with pytest.raises(UserError, match="At least one output format"):
        check_formats([])


def test_suffixes_are_distinct():
    assert len({each.suffix for each in FORMATS.values()}) == len(FORMATS)
