"""The table of scores: read back exactly as written, and refused with the line when damaged."""

import numpy as np
import pytest
import soundfile as sf

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import (
    COLUMNS,
    ScoreRow,
    ScoreTable,
    read_probabilities,
    read_scores,
    score_table,
    write_scores,
    writing_scores,
)

CLASSES = ("Parus, major", 'say "x"', "Ümlaut")
ROWS = [
    ScoreRow("a,b.wav", 0.0, 5.0, "site 1", ("Ümlaut",)),
    ScoreRow("line\nbreak.wav", 2.5, 4.123456, "", ()),
    ScoreRow("caf\udce9.wav", 1e5, 5.0, "g", ("Parus, major", "unknown bird")),
]


def test_table_is_read_back_exactly(tmp_path):
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


def test_any_float32_is_exact_with_nine_digits(tmp_path):
    bits = np.random.default_rng(1).integers(0, 0x7F7FFFFF, 6000, dtype=np.int32)
    scores = bits.view(np.float32).reshape(2000, 3)
    write_scores(tmp_path / "s.csv", score_table([ScoreRow("a", 0, 1, "", ())] * 2000, scores, CLASSES))
    assert read_scores(tmp_path / "s.csv").scores.tobytes() == scores.tobytes()


def test_failed_write_keeps_the_old_table(tmp_path):
    path = tmp_path / "scores.csv"
    write_scores(path, score_table(ROWS, np.zeros((3, 3)), CLASSES))
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"Received: NaN for a,b.wav at 0 s"):
        write_scores(path, score_table(ROWS, np.full((3, 3), np.nan), CLASSES))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scores.csv"]


@pytest.mark.parametrize(
    "text,says",
    [
        ("", "must have the columns"),
        ("path,onset\n", "must have the columns path, onset_s, duration_s, group, labels and one column per class"),
        (",".join(COLUMNS) + "\n", "one column per class"),
        (",".join(COLUMNS) + ",x\na.wav,0,5,g,x\n", "line 2: expected 6 cells, received 5"),
        (",".join(COLUMNS) + ",x\na.wav,0,5,g,x,half\n", "line 2: could not convert"),
        (",".join(COLUMNS) + ",x\na.wav,0,5,g,x,nan\n", "Received: NaN"),
        (",".join(COLUMNS) + ",x,x\na.wav,0,5,g,x,1,1\n", "same name"),
    ],
)
def test_damaged_table_is_refused_with_its_line(tmp_path, text, says):
    (tmp_path / "scores.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says):
        read_scores(tmp_path / "scores.csv")


def test_missing_tables_wrong_shapes_and_semicolons_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"none.csv, which does not exist; birdnet-fs evaluate"):
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
    table = ScoreTable.from_clips(clips, np.zeros((2, 3)), np.array([[0, 0, 1], [1, 0, 0]]), CLASSES)
    assert [(row.onset_s, row.duration_s, row.labels) for row in table.rows] == [
        (0.5, 1.5, ("Ümlaut",)),
        (0.5, 0.5, ("Parus, major",)),
    ]
    assert table.groups == ("g", str(tmp_path / "a.wav"))


def test_times_are_read_back_exactly(tmp_path):
    """Onsets of windows are whole samples over the rate; nine digits would move them by a sample in a long day."""
    times = np.random.default_rng(2).integers(0, 86_400 * 48_000, (500, 2)) / 48_000
    rows = [ScoreRow("a", onset, duration) for onset, duration in times.tolist()]
    write_scores(tmp_path / "s.csv", score_table(rows, np.zeros((500, 3)), CLASSES))
    assert read_scores(tmp_path / "s.csv").rows == tuple(rows)


@pytest.mark.parametrize("name", ["a\rb.wav", "a\r\nb.wav", ' "quoted", ', "\x1b[2J.wav", "#=1+1", "'", "caf\udce9"])
def test_any_path_is_read_back(tmp_path, name):
    write_scores(tmp_path / "s.csv", score_table([ScoreRow(name, 0.0, 1.0, name)], np.zeros((1, 3)), CLASSES))
    assert read_scores(tmp_path / "s.csv").rows == (ScoreRow(name, 0.0, 1.0, name),)


def test_scores_are_read_as_the_same_probabilities(tmp_path):
    """evaluate's table, a teacher's and pseudo.csv are one format: written at once or in parts, read either way."""
    logits = np.random.default_rng(3).normal(0, 8, (400, 3))
    p = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    rows = [ScoreRow(f"{i // 4}.wav", 2.5 * (i % 4), 2.5) for i in range(400)]
    write_scores(tmp_path / "whole.csv", score_table(rows, p, CLASSES))
    with writing_scores(tmp_path / "parts.csv", CLASSES) as add:
        for start in range(0, 400, 37):
            add(rows[start : start + 37], p[start : start + 37])
        assert not (tmp_path / "parts.csv").exists()
    assert (tmp_path / "whole.csv").read_bytes() == (tmp_path / "parts.csv").read_bytes()
    turned = [CLASSES[i] for i in (2, 0, 1)]
    found = read_probabilities(tmp_path / "parts.csv", turned, multi_label=False)
    assert found.values.tobytes() == p[:, [2, 0, 1]].tobytes()
    assert found.values.tobytes() == read_scores(tmp_path / "whole.csv").scores[:, [2, 0, 1]].tobytes()
    assert (found.paths[5], found.onsets_s[5], found.durations_s[5]) == ("1.wav", 2.5, 2.5)


def test_interrupted_write_keeps_the_old_table(tmp_path):
    path = tmp_path / "s.csv"
    write_scores(path, score_table(ROWS, np.zeros((3, 3)), CLASSES))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), writing_scores(path, CLASSES) as add:
        add(ROWS, np.ones((3, 3), np.float32))
        raise KeyboardInterrupt
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]


def test_columns_may_have_any_order_and_classes_other_names_than_theirs(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("x,labels,duration_s,y,path,group,onset_s\n.5,y,2,.25,a.wav,g,1\n", encoding="utf-8")
    table = read_scores(path)
    assert (table.rows, table.classes) == ((ScoreRow("a.wav", 1.0, 2.0, "g", ("y",)),), ("x", "y"))
    assert (table.scores.tolist(), table.targets.tolist()) == ([[0.5, 0.25]], [[0, 1]])
    for names in (("group", "a"), ("a", "path"), ("start_s",), ("a;b",), ("a\tb",), ("a", "a")):
        with pytest.raises(UserError, match="Class names must be"):
            score_table(ROWS[:1], np.ones((1, len(names))), names)
    path.write_text("path,onset_s,duration_s,group,labels,path\na.wav,0,1,g,,1\n", encoding="utf-8")
    with pytest.raises(UserError, match="two columns of the same name"):
        read_scores(path)
    path.write_text("y,path,onset_s,duration_s\n1,a.wav,0,1\n", encoding="utf-8")
    assert read_probabilities(path, ("y",), multi_label=True).values.tolist() == [[1.0]]
    with pytest.raises(UserError, match="group, labels and one column"):
        read_scores(path)


def test_rows_and_clips_share_the_rule_of_groups(tmp_path):
    for group, wanted in (("g", "g"), ("", "a.wav")):
        assert ScoreRow("a.wav", 0.0, 1.0, group).recording_group == wanted
        clip = Clip(tmp_path / "a.wav", group=group)
        assert clip.recording_group == (wanted if group else str(tmp_path / "a.wav"))
