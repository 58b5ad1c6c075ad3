"""Audacity label tracks: the exact text, written by hand."""

import os

import pytest
from detections import RECORDING

from birdnet_fs.analysis.table_formats.audacity import render

EXPECTED = (
    "0.0\t5.0\tTurdus merula_Eurasian Blackbird\t0.9877\n"
    "2.5\t7.5\tnocall\t0.2500\n"
    '3600.0\t3601.234567\tAvis fictiva_Some, "odd" bird\t1.0000\n'
)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
def test_text_is_exact():
    assert render(RECORDING) == EXPECTED
