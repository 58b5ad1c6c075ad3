"""The CSV of the birdnet package: the exact text, written by hand."""

import os

import pytest
from detections import RECORDING

from birdnet_fs.analysis.table_formats.birdnet import clock, render

EXPECTED = (
    "input,start_time,end_time,species_name,confidence\n"
    "/rec/site 1/a.wav,00:00:00.00,00:00:05.00,Turdus merula_Eurasian Blackbird,0.9877\n"
    "/rec/site 1/a.wav,00:00:02.50,00:00:07.50,nocall,0.2500\n"
    '/rec/site 1/a.wav,01:00:00.00,01:00:01.23,"Avis fictiva_Some, ""odd"" bird",1.0000\n'
)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
def test_text_is_exact():
    assert render(RECORDING) == EXPECTED


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "00:00:00.00"), (4.35, "00:00:04.35"), (59.999, "00:00:59.99"), (3723.5, "01:02:03.50")]
)
def test_clock_truncates_to_hundredths(seconds, text):
    assert clock(seconds) == text
