"""Submission tables, against pandas."""

import numpy as np
import pandas as pd
import pytest

from birdnet_fs.analysis.submission import WindowProbabilities, read_submission_rows, write_submission
from birdnet_fs.core.errors import UserError

RNG = np.random.default_rng(0)
WINDOWS = tuple((file, end) for file in ("soundscape_1", "soundscape_2") for end in (5, 10, 15))
SCORED = WindowProbabilities(("akiapo", "houfin", "other"), WINDOWS, RNG.random((6, 3)))


def as_table():
    rows = [
        (file, end, name, p)
        for (file, end), row in zip(WINDOWS, SCORED.probabilities, strict=True)
        for name, p in zip(SCORED.classes, row, strict=True)
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
    report = write_submission(rows, SCORED, tmp_path / "out.csv", threshold=0.4)
    wanted = test.merge(as_table(), how="left", on=["file_id", "bird", "end_time"])
    found = pd.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == ["row_id", "target"] and list(found.row_id) == list(test.row_id)
    assert list(found.target) == list(wanted.p.fillna(0) >= 0.4) and found.target.any()
    assert (report.n_rows, report.n_without_scores, report.recordings) == (12, 4, ("soundscape_9",))
    assert report.lines == ("4 of 12 rows, of 1 recordings, have no scores and get no detection: soundscape_9",)


def test_wide_form_keeps_rows_and_columns_of_the_sample(tmp_path):
    ids = ["soundscape_2_15", "soundscape_1_5", "soundscape_3_5"]
    (tmp_path / "sample.csv").write_text("row_id,houfin,elepai,akiapo\n" + "".join(f"{i},0.1,0.1,0.1\n" for i in ids))
    report = write_submission(read_submission_rows(tmp_path / "sample.csv"), SCORED, tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv")
    assert list(found.columns) == ["row_id", "houfin", "elepai", "akiapo"] and list(found.row_id) == ids
    wanted = np.zeros((3, 3))
    wanted[:2] = SCORED.probabilities[[5, 0]][:, [1, 1, 0]]
    wanted[:, 1] = 0
    np.testing.assert_allclose(found.iloc[:, 1:], wanted, rtol=1e-5)
    assert report.classes == ("elepai",) and report.recordings == ("soundscape_3",)
    assert "1 classes are not of the model" in report.lines[1]


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
    for scores, message in (
        (WindowProbabilities(("akiapo",), (("x", 5),), np.array([[1.5]])), r"must be in 0\.\.1"),
        (WindowProbabilities(("akiapo",), (("x", 5), ("x", 5)), np.zeros((2, 1))), "given twice"),
    ):
        with pytest.raises(UserError, match=message):
            write_submission(rows, scores, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
