"""Submission tables, against pandas."""

import numpy as np
import pandas as pd
import pytest

from birdnet_fs.analysis.competition.rows import read_submission_rows
from birdnet_fs.analysis.competition.table import SubmissionTable, write_submission
from birdnet_fs.core.errors import UserError

RNG = np.random.default_rng(0)
WINDOWS = tuple((file, end) for file in ("soundscape_1", "soundscape_2") for end in (5, 10, 15))
CLASSES, SCORES = ("akiapo", "houfin", "other"), RNG.random((6, 3)).astype(np.float32)
SCORED = (CLASSES, WINDOWS, SCORES)


def as_table():
    rows = [
        (file, end, name, p)
        for (file, end), row in zip(WINDOWS, SCORES, strict=True)
        for name, p in zip(CLASSES, row, strict=True)
    ]
    return pd.DataFrame(rows, columns=["file_id", "end_time", "bird", "p"])


def test_long_form_is_the_left_merge_of_test_csv(tmp_path):
    asked = [
        (f, b, e)
        for f in ("soundscape_2", "soundscape_9", "soundscape_1")
        for e in (10, 5)
        for b in ("houfin", "akiapo")
    ]
    test = pd.DataFrame(asked, columns=["file_id", "bird", "end_time"])
    test.insert(0, "row_id", test.file_id + "_" + test.bird + "_" + test.end_time.astype(str))
    test.to_csv(tmp_path / "test.csv", index=False)
    rows = read_submission_rows(tmp_path / "test.csv")
    report = write_submission(rows, *SCORED, tmp_path / "out.csv", threshold=0.4)
    wanted = test.merge(as_table(), how="left", on=["file_id", "bird", "end_time"])
    found = pd.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == ["row_id", "target"] and list(found.row_id) == list(test.row_id)
    assert list(found.target) == list(wanted.p.fillna(0) >= 0.4) and found.target.any()
    assert (report.n_rows, report.n_without_scores, report.recordings) == (12, 4, ("soundscape_9",))
    assert report.lines == ("4 of 12 rows, of 1 recordings, have no scores and get no detection: soundscape_9",)


def test_wide_form_keeps_rows_and_columns_of_the_sample(tmp_path):
    ids = ["soundscape_2_15", "soundscape_1_5", "soundscape_3_5"]
    (tmp_path / "sample.csv").write_text("row_id,houfin,elepai,akiapo\n" + "".join(f"{i},0.1,0.1,0.1\n" for i in ids))
    report = write_submission(read_submission_rows(tmp_path / "sample.csv"), *SCORED, tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == ["row_id", "houfin", "elepai", "akiapo"] and list(found.row_id) == ids
    wanted = np.zeros((3, 3), np.float32)
    wanted[:2] = SCORES[[5, 0]][:, [1, 1, 0]]
    wanted[2] = SCORES[[5, 0]].mean(0, dtype=np.float64)[[1, 1, 0]]  # of the windows that are asked for
    wanted[:, 1] = 0
    assert (found.iloc[:, 1:].to_numpy().astype(np.float32) == wanted).all()  # every digit
    assert report.classes == ("elepai",) and report.recordings == ("soundscape_3",)
    assert "get the mean of each class over the 2 scored windows: soundscape_3" in report.lines[0]
    assert "1 of 3 classes are not of the model" in report.lines[1]


def test_the_file_is_complete_whenever_it_is_written(tmp_path):
    (tmp_path / "sample.csv").write_text("row_id,akiapo,houfin\na_5,0,0\na_10,0,0\n")
    table = SubmissionTable(read_submission_rows(tmp_path / "sample.csv"), {"houfin": 0})
    shown = []
    for scores in (None, [[0.25]]):
        if scores:
            table.add([("a", 5)], scores)
        table.write(tmp_path / "out.csv")
        shown.append((tmp_path / "out.csv").read_text().splitlines()[1:])
    assert shown == [["a_5,0,0", "a_10,0,0"], ["a_5,0,0.25", "a_10,0,0.25"]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row_id,target\na_b_5,False\n", "must have the columns row_id, file_id, bird and end_time"),
        (
            "row_id,file_id,bird,end_time\nx_akiapo_5,x,houfin,5\n",
            "row 2: row_id must be file_id_bird_end_time, x_hou",
        ),
        ("row_id,file_id,bird,end_time\nx_akiapo_a,x,akiapo,a\n", "whole number of seconds above 0. Received: 'a'"),
        ("row_id,akiapo\nx5,0\n", "row 2: row_id must be file_id_end. Received: 'x5'"),
        ("row_id,akiapo\nx_5,0\nx_5,0\n", "has the row_id x_5 twice"),
        ("row_id,akiapo\n", "has no rows"),
    ],
)
def test_other_tables_are_refused(tmp_path, text, message):
    (tmp_path / "test.csv").write_text(text)
    with pytest.raises(UserError) as refused:
        read_submission_rows(tmp_path / "test.csv")
    assert message in str(refused.value)


def test_scores_out_of_range_or_given_twice_are_refused(tmp_path):
    (tmp_path / "sample.csv").write_text("row_id,akiapo,houfin\nx_5,0,0\n")
    rows = read_submission_rows(tmp_path / "sample.csv")
    for windows, scores, message in (
        ((("x", 5),), np.array([[1.5]]), r"must be in 0\.\.1"),
        ((("x", 5), ("x", 5)), np.zeros((2, 1)), "given twice"),
    ):
        with pytest.raises(UserError, match=message):
            write_submission(rows, ("akiapo",), windows, scores, tmp_path / "out.csv")
    with pytest.raises(UserError, match=r"threshold must be in 0\.\.1"):
        SubmissionTable(rows, {}, threshold=1.5)
    assert not (tmp_path / "out.csv").exists()
