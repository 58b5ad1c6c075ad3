"""The CSV of Kaleidoscope: the exact text, written by hand."""

import os

import pytest
from detections import RECORDING

from birdnet_fs.analysis.table_formats.kaleidoscope import render

EXPECTED = (
    "INDIR,FOLDER,IN FILE,OFFSET,DURATION,TOP1MATCH,TOP1DIST\n"
    "/rec,site 1,a.wav,0.0,5.0,Turdus merula_Eurasian Blackbird,0.0123\n"
    "/rec,site 1,a.wav,2.5,5.0,nocall,0.7500\n"
    '/rec,site 1,a.wav,3600.0,1.234567,"Avis fictiva_Some, ""odd"" bird",0.0000\n'
)


@pytest.mark.skipif(os.name != "posix", reason="the expected paths are POSIX")
def test_text_is_exact():
    assert render(RECORDING) == EXPECTED
