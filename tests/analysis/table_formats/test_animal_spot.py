"""Raven selection tables in the columns of ANIMAL-SPOT: the exact text, written by hand."""

import os

import pytest
from detections import RECORDING

from birdnet_fs.analysis.table_formats.animal_spot import render

EXPECTED = (
    "Selection\tView\tChannel\tBegin time (s)\tEnd time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSound type\tComments\n"
    "1\tSpectrogram 1\t1\t0.0\t5.0\t50\t14000\tTurdus merula_Eurasian Blackbird\t0.9877\n"
    "2\tSpectrogram 1\t1\t2.5\t7.5\t50\t14000\tnocall\t0.2500\n"
    '3\tSpectrogram 1\t1\t3600.0\t3601.234567\t50\t14000\tAvis fictiva_Some, "odd" bird\t1.0000\n'
)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
def test_text_is_exact():
    assert render(RECORDING) == EXPECTED
