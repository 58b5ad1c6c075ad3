"""Text shared by the table formats: names, times and rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from birdnet_fs.analysis.detections import RecordingDetections, TableStyle
from birdnet_fs.analysis.table_formats.text import comma_table, number, recording_path, seconds, tab_table, whole_units


def test_seconds_are_truncated_to_microseconds():
    assert [seconds(v) for v in (0, 3, 2.5, 1 / 3, 86_399.999999)] == ["0.0", "3.0", "2.5", "0.333333", "86399.999999"]


def test_whole_units_truncates_but_not_below_the_decimal_value():
    assert [whole_units(v, 100) for v in (0.29, 4.35, 4.359, 1.1)] == [29, 435, 435, 110]


def test_tables_escape_control_characters_and_quote_commas():
    rows = [("a\tb", 1), ('c,"d"', 2)]
    assert tab_table(("x", "y"), rows) == 'x\ty\na\\tb\t1\nc,"d"\t2\n'
    assert tab_table((), rows[:1]) == "a\\tb\t1\n"
    assert comma_table(("x", "y"), rows) == 'x,y\na\\tb,1\n"c,""d""",2\n'


def test_only_comma_tables_mark_formulas():
    rows = [("=cmd()", "-1", "@x", "a=b")]
    assert comma_table(("w", "x", "y", "z"), rows) == "w,x,y,z\n'=cmd(),-1,'@x,a=b\n"
    assert tab_table((), rows) == "=cmd()\t-1\t@x\ta=b\n"


def test_a_path_is_written_as_it_is_known():
    known = RecordingDetections(Path("site/a.wav"), Path(), 0, 1, ())
    assert recording_path(known) == str(Path("site/a.wav"))


def test_style_of_paths_and_numbers():
    plain = RecordingDetections(Path("/rec/site 1/a.wav"), Path("/rec"), 0, 1, ())
    styled = replace(plain, style=TableStyle(relative_paths=True, full_precision=True))
    assert (recording_path(styled), recording_path(plain)) == ("site 1/a.wav", str(Path("/rec/site 1/a.wav")))
    exact = float(np.float32(0.123456789))
    assert number(exact, plain) == "0.1235" and np.float32(number(exact, styled)) == np.float32(exact)
