"""Names of columns: what they hold, their units, and columns of times that cannot be used."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.tables.columns import (
    LABELS,
    PATHS,
    TimeColumns,
    find,
    is_selection_header,
    is_selection_table,
    key_of,
    time_columns,
    unused_times,
    words_of,
)

STARTS = [
    "start",
    "Start Time (s)",
    "Start (s)",
    "onset",
    "onset_s",
    "Begin Time (s)",
    "T_START_MS",
    "Starttime",
    "t_min",
]
STARTS += [
    "t_min",
    "StartTime [ms]",
    "segment_start",
    "begin",
    "Begin Sample (samples)",
    "event onset (sec)",
    "MIN_T",
    "from",
]


@pytest.mark.parametrize("name", STARTS)
def test_start_is_recognized_with_the_end_that_is_written_alike(name):
    end = name
    for old, new in (("start", "end"), ("onset", "offset"), ("begin", "end"), ("min", "max"), ("from", "to")):
        place = end.lower().find(old)
        end = end if place < 0 else end[:place] + new + end[place + len(old) :]
    assert time_columns(["file", name, end, "label"], "t.csv") == TimeColumns(name, end)


@pytest.mark.parametrize(
    ("columns", "times"),
    [
        (["IN FILE", "OFFSET", "DURATION", "MANUAL ID"], TimeColumns("OFFSET", duration="DURATION")),
        (["file", "start", "duration"], TimeColumns("start", duration="duration")),
        (["file", "start", "end", "duration"], TimeColumns("start", "end")),
        (["file", "onset", "offset", "duration"], TimeColumns("onset", "offset")),
        (["file", "start_ms", "end_ms", "start_s", "end_s"], TimeColumns("start_s", "end_s")),
        (["Begin Time (s)", "End Time (s)", "Begin Sample (samples)", "File Offset (s)", "Delta Time (s)"],
         TimeColumns("Begin Time (s)", "End Time (s)")),
        (["file", "label", "duration", "date", "Begin Clock Time"], TimeColumns()),
        (["file", "label"], TimeColumns()),
    ],
)  # fmt: skip
def test_times_of_a_table(columns, times):
    assert time_columns(columns, "t.csv") == times


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["file", "start"],
            r"t\.csv has start times \(column 'start'\) but no end times; add a column end or",
        ),
        (
            ["file", "End Time (s)"],
            r"has end times \(column 'End Time \(s\)'\) but no start times; add a column start",
        ),
        (["file", "offset"], "has end times .* but no start times"),
        (["start", "Start Time", "end"], "several columns of the start: 'start', 'Start Time'; rename all but one"),
        (["start_samples", "end_s"], "in samples and in another unit in the columns 'start_samples', 'end_s'"),
        (
            ["start (frames)", "end (frames)"],
            r"to have times in the columns 'start \(frames\)', 'end \(frames\)'",
        ),
        (["begin_px_time", "stop_px_time"], "rename them to start and end"),
    ],
)
def test_times_that_cannot_be_used_are_refused(columns, message):
    with pytest.raises(UserError, match=message):
        time_columns(columns, "t.csv")


def test_columns_that_seem_to_hold_times_are_found():
    columns = ["file", "time", "Peak Time (s)", "date", "start", "end", "Low Freq (Hz)", "duration", "sample_rate"]
    assert unused_times(columns, TimeColumns("start", "end")) == ["time", "Peak Time (s)"]
    assert unused_times(["file", "duration", "seconds"], TimeColumns()) == ["duration", "seconds"]


@pytest.mark.parametrize(
    ("columns", "path", "label"),
    [
        (["Filename", "Start Time (s)", "Species eBird Code"], "Filename", "Species eBird Code"),
        (["INDIR", "FOLDER", "IN FILE", "MANUAL ID*"], "IN FILE", "MANUAL ID*"),
        (["Audio File", "Common Name"], "Audio File", "Common Name"),
        (["recording_path", "LABEL"], "recording_path", "LABEL"),
        (["file", "file_name", "class"], "file_name", "class"),
        (["name", "call_type", "url"], "", ""),
    ],
)
def test_paths_and_labels_are_found(columns, path, label):
    assert (find(columns, PATHS), find(columns, LABELS)) == (path, label)


def test_selection_table_is_recognized_by_its_columns():
    assert is_selection_table(["Selection", "View", "Begin Time (s)"])
    assert not is_selection_table(["Selection", "start"]) and not is_selection_table(["Begin Time (s)", "file"])
    assert is_selection_header("selection,begin time (s),x") and not is_selection_header("1.0\t2.0\trobin")


@given(
    st.lists(st.sampled_from(["start", "end", "file", "name", "code", "low"]), min_size=1, max_size=3),
    st.sampled_from([" ", "_", "-", ""]),
    st.sampled_from([str.lower, str.upper, str.title]),
    st.sampled_from(["", " (s)", "_s", " [ms]", "_seconds"]),
)
def test_key_does_not_depend_on_case_separators_and_unit(words, separator, case, unit):
    name = case(separator.join(words)) + unit
    assert key_of(name) == "".join(words)
    assert words_of(name)[1] == {"": "", " (s)": "s", "_s": "s", " [ms]": "ms", "_seconds": "s"}[unit]
