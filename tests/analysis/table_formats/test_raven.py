"""Raven selection tables in the columns of BirdNET-Analyzer: the exact text, written by hand."""

import csv
import io
import os

import pytest
from detections import RECORDING

from birdnet_fs.analysis.table_formats.raven import render

EXPECTED = (
    "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tCommon Name\t"
    "Species Code\tConfidence\tBegin Path\tFile Offset (s)\n"
    "1\tSpectrogram 1\t1\t0.0\t5.0\t50\t14000\tEurasian Blackbird\t"
    "Turdus merula_Eurasian Blackbird\t0.9877\t/rec/site 1/a.wav\t0.0\n"
    "2\tSpectrogram 1\t1\t2.5\t7.5\t50\t14000\tnocall\tnocall\t0.2500\t/rec/site 1/a.wav\t2.5\n"
    '3\tSpectrogram 1\t1\t3600.0\t3601.234567\t50\t14000\tSome, "odd" bird\t'
    'Avis fictiva_Some, "odd" bird\t1.0000\t/rec/site 1/a.wav\t3600.0\n'
)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
def test_text_is_exact():
    assert render(RECORDING) == EXPECTED


def test_table_is_read_back_by_a_csv_reader():
    rows = list(csv.DictReader(io.StringIO(render(RECORDING)), delimiter="\t"))
    found = [(float(r["Begin Time (s)"]), float(r["End Time (s)"]), r["Species Code"]) for r in rows]
    assert found == [(d.onset_s, d.offset_s, d.label) for d in RECORDING.detections]
    assert [r["Selection"] for r in rows] == ["1", "2", "3"]
    assert {r["Begin Path"] for r in rows} == {"/rec/site 1/a.wav"}
