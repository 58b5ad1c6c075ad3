"""The CSV of BirdNET-Analyzer: the exact text, written by hand."""

import os

import pytest
from detections import RECORDING

from birdnet_fs.analysis.table_formats.csv import render

EXPECTED = (
    "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
    "0.0,5.0,Turdus merula,Eurasian Blackbird,0.9877,/rec/site 1/a.wav\n"
    "2.5,7.5,nocall,nocall,0.2500,/rec/site 1/a.wav\n"
    '3600.0,3601.234567,Avis fictiva,"Some, ""odd"" bird",1.0000,/rec/site 1/a.wav\n'
)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
def test_text_is_exact():
    assert render(RECORDING) == EXPECTED
