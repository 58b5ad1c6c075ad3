"""Times in cells: units, decimal marks, durations, samples, and cells that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.data.tables.columns import time_columns
from birdnet_fs.data.tables.times import TimeReader


def reader(columns=("start", "end"), delimiter=",", **options):
    return TimeReader(time_columns(columns, "t.csv"), delimiter, **options)


def read(start, end, columns=("start", "end"), delimiter=",", **options):
    times = reader(columns, delimiter, **options).read(dict(zip(columns, (start, end), strict=True)))
    return times.problems or (times.onset, times.offset)


@pytest.mark.parametrize(
    ("columns", "cells", "seconds"),
    [
        (("start", "end"), ("1.5", "3"), (1.5, 3.0)),
        (("start", "duration"), ("0.1", "0.2"), (0.1, 0.3)),
        (("start_ms", "end_ms"), ("1500", "2500"), (1.5, 2.5)),
        (("start (min)", "end (min)"), ("0.5", "1"), (30.0, 60.0)),
        (("start_h", "duration_s"), ("1", "3"), (3600.0, 3603.0)),
        (("start_samples", "end_samples"), ("800", "1600"), (800.0, 1600.0)),
        (("start", "end"), ("", ""), (None, None)),
        (("start", "end"), ("1e0", "+2."), (1.0, 2.0)),
    ],
)
def test_units_and_durations(columns, cells, seconds):
    assert read(*cells, columns) == seconds
    assert reader(columns).in_samples == ("samples" in columns[0])


@pytest.mark.parametrize("text", ["1_0", "0x10", "1e400", "inf", "nan", "-1", "1 s", "00:00:01", "1.2.3", "١", "1,5"])
def test_what_is_no_time_is_refused(text):
    [problem] = read("0", text)
    assert problem.startswith("its offset must") and repr(text) in problem
    assert ("Clock times are not read" in problem) == (":" in text)


@pytest.mark.parametrize(("start", "end", "lacking"), [("1", "", "end"), ("", "1", "start"), ("0", "", "end")])
def test_one_of_start_and_end_is_refused(start, end, lacking):
    [problem] = read(start, end)
    assert problem.startswith(f"its {lacking} is empty")
    if lacking == "end":
        assert read(start, end, open_ended=True) == (float(start), None)


def test_end_must_be_later_than_the_start():
    assert read("5", "5") == ("its end (5 s) must be later than its start (5 s).",)
    assert read("3", "2", ("start_samples", "end_samples")) == (
        "its end (2 samples) must be later than its start (3 samples).",
    )


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_table_has_one_decimal_mark(delimiter):
    times = reader(delimiter=delimiter)
    assert times.read_pair("1,5", "3,25")[:2] == (1.5, 3.25)
    assert times.read_pair("2", "4")[:2] == (2.0, 4.0)
    [problem] = times.read_pair("5", "6.5").problems
    assert problem.startswith("its offset has a decimal point, and times above it have a comma")


@given(st.floats(0, 1e5), st.floats(1e-3, 1e4), st.sampled_from([",", "."]))
def test_times_are_those_of_float(onset, length, mark):
    texts = [f"{time:.6f}".replace(".", mark) for time in (onset, onset + length)]
    found = read(*texts, delimiter=";")
    assert found == (float(texts[0].replace(",", ".")), float(texts[1].replace(",", ".")))
