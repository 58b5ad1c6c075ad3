"""scores.csv: what is written comes back, bit for bit, and a damaged table is refused with its line."""

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.plumbing.errors import UserError
from birdnet_fs.recordings.manifest import Clip
from birdnet_fs.reports.scores import COLUMNS, ScoreRow, ScoreTable, read_scores, score_table, write_scores

CLASSES = ("Parus, major", 'say "x"', "Ümlaut")
ROWS = [
    ScoreRow("a,b.wav", 0.0, 5.0, "site 1", ("Ümlaut",)),
    ScoreRow("line\nbreak.wav", 2.5, 4.123456, "", ()),
    ScoreRow("caf\udce9.wav", 1e5, 5.0, "g", ("Parus, major", "unknown bird")),
]


def test_everything_comes_back_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.random((3, 3), dtype=np.float32)
    scores[0] = [0.1, np.float32(1) - np.float32(2**-24), np.float32(1e-42)]
    write_scores(tmp_path / "scores.csv", score_table(ROWS, scores, CLASSES))
    table = read_scores(tmp_path / "scores.csv")
    assert table.scores.dtype == np.float32
    assert table.scores.tobytes() == scores.tobytes()
    assert table.rows == tuple(ROWS)
    assert table.classes == CLASSES
    assert table.groups == ("site 1", "line\nbreak.wav", "g")
    assert table.paths == tuple(row.path for row in ROWS)
    np.testing.assert_array_equal(table.targets, [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


def test_any_float32_survives_nine_digits(tmp_path):
    bits = np.random.default_rng(1).integers(0, 0x7F7FFFFF, 6000, dtype=np.int32)
    scores = bits.view(np.float32).reshape(2000, 3)
    write_scores(tmp_path / "s.csv", score_table([ScoreRow("a", 0, 1, "", ())] * 2000, scores, CLASSES))
    assert read_scores(tmp_path / "s.csv").scores.tobytes() == scores.tobytes()


def test_a_failed_write_leaves_the_old_table(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, score_table(ROWS, np.zeros((3, 3)), CLASSES))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"a,b.wav at 0 s hold NaN"):
        write_scores(path, score_table(ROWS, np.full((3, 3), np.nan), CLASSES))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize(
    "text,says",
    [
        ("path,onset\n", "must begin with"),
        (",".join(COLUMNS) + "\n", "one column per class"),
        (",".join(COLUMNS) + ",x\na.wav,0,5,g,x\n", "line 2: 5 cells instead of 6"),
        (",".join(COLUMNS) + ",x\na.wav,0,5,g,x,half\n", "line 2: could not convert"),
        (",".join(COLUMNS) + ",x\na.wav,0,5,g,x,nan\n", "hold NaN"),
        (",".join(COLUMNS) + ",x,x\na.wav,0,5,g,x,1,1\n", "same name"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path, text, says):
    (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        read_scores(tmp_path / "scores.csv")


def test_missing_tables_wrong_shapes_and_semicolons_are_refused(tmp_path):
    with pytest.raises(UserError, match="train or evaluate first"):
        read_scores(tmp_path / "none.csv")
    with pytest.raises(UserError, match=r"\[3, 3\]"):
        write_scores(tmp_path / "s.csv", score_table(ROWS, np.zeros((2, 3)), CLASSES))
    with pytest.raises(UserError, match="';'"):
        write_scores(tmp_path / "s.csv", score_table([ScoreRow("a", 0, 1, "", ("x;y",))], np.zeros((1, 3)), CLASSES))


def test_clips_become_rows_with_the_labels_of_their_targets(tmp_path):
    sf.write(tmp_path / "a.wav", np.zeros(16_000), 8000)
    clips = [
        Clip(tmp_path / "a.wav", 0.5, None, ("Ümlaut",), group="g"),
        Clip(tmp_path / "a.wav", 0.5, 1.0, (), secondary=("Parus, major",)),
    ]
    table = ScoreTable.of(clips, np.zeros((2, 3)), np.array([[0, 0, 1], [1, 0, 0]]), CLASSES)
    assert [(row.onset_s, row.duration_s, row.labels) for row in table.rows] == [
        (0.5, 1.5, ("Ümlaut",)),
        (0.5, 0.5, ("Parus, major",)),
    ]
    assert table.groups == ("g", str(tmp_path / "a.wav"))
