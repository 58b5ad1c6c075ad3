"""Submissions of a model: which audio a row is scored by, rows of unusable recordings, and time budgets."""

import csv

import numpy as np
import pytest
import soundfile

from birdnet_fs import schema
from birdnet_fs.analysis.competition.budget import TimeBudget
from birdnet_fs.analysis.competition.class_names import match_classes
from birdnet_fs.analysis.competition.folder import COMPETITIONS, check_competition, read_competition
from birdnet_fs.analysis.competition.submit import submit
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine

RATE = 8_000
COLUMNS = ("other", "loud")
C2025 = COMPETITIONS["birdclef2025"]


def level_engine(segment_s=5.0, on_call=lambda: None, name="loud"):
    """A model whose probability is the level of a window."""
    spec = schema.FrontEnd(
        sample_rate_hz=RATE, segment_s=segment_s, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
    )

    def forward(waveforms):
        on_call()
        p = np.abs(waveforms.astype(np.float64)).mean(axis=1, keepdims=True).clip(1e-6, 1 - 1e-6)
        return np.log(p / (1 - p)).astype(np.float32)

    return Engine((name,), spec, "sigmoid", "level", forward)


def recording(folder, name, levels, rate=RATE):
    """Five seconds of each level."""
    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / f"{name}.flac", np.repeat(levels, 5 * rate), rate)


def sample(folder, *windows):
    rows = "".join(f"{name}_{end},0.5,0.5\n" for name, end in windows)
    (folder / "sample_submission.csv").write_text("row_id,other,loud\n" + rows)


def submitted(root, engine=None, **options):
    """The submission as the column `loud` by row, and what `submit` returned."""
    made = options.pop("open_engine", None) or (lambda n: engine or level_engine())
    kept = {key: options.pop(key) for key in ("rows", "audio") if key in options}
    test = read_competition(root, options.pop("competition", C2025), **kept)
    match = match_classes(test.rows.classes, ("loud",), {})
    answer = submit(made, test, match, root / "out.csv", **options)
    with open(root / "out.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    return {row["row_id"]: float(row["loud"]) for row in found}, answer, test


@pytest.mark.parametrize("segment_s", [5.0, 2.5])
def test_a_row_is_the_five_seconds_before_its_stamp(tmp_path, segment_s):
    recording(tmp_path / "test_soundscapes", "a", [0.25, 0.5, 0.75])
    sample(tmp_path, ("a", 15), ("a", 5), ("a", 10))
    found, (report, ledger), _ = submitted(tmp_path, level_engine(segment_s))
    assert list(found) == ["a_15", "a_5", "a_10"]
    np.testing.assert_allclose(list(found.values()), [0.75, 0.25, 0.5], atol=1e-4)  # 16 bits
    assert report.n_without_scores == 0 and ledger.counts()["ok"] == 1


def test_every_row_is_there_whatever_its_recording_is_like(tmp_path):
    audio = tmp_path / "test_soundscapes"
    recording(audio, "good", [0.25, 0.5])
    recording(audio, "short", [0.5])
    recording(audio, "fast", [0.5, 0.5], rate=48_000)
    soundfile.write(audio / "empty.flac", np.zeros(0), RATE)
    (audio / "broken.ogg").write_bytes(b"OggS no audio")
    (audio / "zero.ogg").write_bytes(b"")
    for name in ("twice.flac", "twice.wav"):
        soundfile.write(audio / name, np.zeros(RATE * 10), RATE)
    names = ("good", "short", "fast", "empty", "broken", "zero", "twice", "missing")
    sample(tmp_path, *[(name, end) for name in names for end in (5, 10)])
    found, (report, ledger), _ = submitted(tmp_path)
    assert len(found) == 16
    scored = [found.pop(row) for row in ("good_5", "good_10", "short_5", "fast_5", "fast_10")]
    np.testing.assert_allclose(scored, [0.25, 0.5, 0.5, 0.5, 0.5], atol=5e-4)
    assert set(map(np.float32, found.values())) == {np.float32(np.mean(scored))}
    assert report.n_without_scores == 11 and "mean of each class over the 5 scored windows" in report.lines[0]
    reasons = {row.source: row.reason for row in ledger.rows if row.status == "quarantined"}
    assert set(reasons) == {"empty", "broken", "zero", "twice", "missing"}
    assert reasons["twice"] == "2 recordings are called twice."
    assert reasons["missing"] == "there is no recording called missing."


def test_without_recordings_the_rows_are_those_of_the_sample(tmp_path):
    (tmp_path / "test_soundscapes").mkdir()
    (tmp_path / "test_soundscapes" / "readme.txt").write_text("The recordings are there when it is scored.")
    sample(tmp_path, ("soundscape_8358733", 5), ("soundscape_8358733", 10))
    found, (report, _), test = submitted(tmp_path, open_engine=lambda n: pytest.fail("no model is needed"))
    assert found == {"soundscape_8358733_5": 0, "soundscape_8358733_10": 0}
    assert "as in a notebook's run before it is submitted: the 2 rows of sample_submission.csv" in test.notes[0]
    assert report.n_without_scores == 2
    with pytest.raises(UserError, match="--rows recordings needs recordings"):
        read_competition(tmp_path, C2025, rows="recordings")


def test_rows_of_a_stub_are_those_of_the_recordings(tmp_path):
    recording(tmp_path / "test_soundscapes", "new_1", [0.5] * 13)
    recording(tmp_path / "test_soundscapes", "new_2", [0.25])  # the competition's are 60 s
    sample(tmp_path, ("soundscape_8358733", 5))
    found, (report, _), test = submitted(tmp_path)
    assert list(found) == [f"new_1_{end}" for end in range(5, 70, 5)] + [f"new_2_{end}" for end in range(5, 65, 5)]
    assert report.n_without_scores == 11
    assert "the 1 rows of sample_submission.csv are left out" in test.notes[0]
    assert list(submitted(tmp_path, rows="sample")[0]) == ["soundscape_8358733_5"]
    assert len(submitted(tmp_path, competition=COMPETITIONS["birdclef2024"])[0]) == 2 * 48


def test_recordings_that_a_sample_does_not_name_are_added_to_it(tmp_path):
    for name in ("a", "b"):
        recording(tmp_path / "test_soundscapes", name, [0.5])
    sample(tmp_path, ("gone", 5), ("a", 5))
    found, _, test = submitted(tmp_path)
    assert list(found) == ["gone_5", "a_5", *(f"b_{end}" for end in range(5, 65, 5))]
    assert test.notes == ("1 recordings are not in sample_submission.csv; their rows are every 5 s.",)
    assert len(submitted(tmp_path, rows="recordings")[0]) == 24


def test_the_long_form_has_true_and_false(tmp_path):
    recording(tmp_path / "test_soundscapes", "a", [0.25, 0.75])
    rows = [("a", "loud", 5), ("a", "loud", 10), ("b", "loud", 5), ("a", "other", 5)]
    text = "".join(f"{f}_{b}_{e},{f},{b},{e}\n" for f, b, e in rows)
    (tmp_path / "test.csv").write_text("row_id,file_id,bird,end_time\n" + text)
    test = read_competition(tmp_path, COMPETITIONS["birdclef2022"])
    match = match_classes(test.rows.classes, ("loud",), {})
    submit(lambda n: level_engine(), test, match, tmp_path / "out.csv", threshold=0.5)
    written = (tmp_path / "out.csv").read_text().split()
    assert written[1:] == ["a_loud_5,False", "a_loud_10,True", "b_loud_5,False", "a_other_5,False"]


class Budget(TimeBudget):
    """A budget on a clock that every recording moves, when its scores are there, by `seconds()`."""

    def __init__(self, budget_s, seconds):
        self.now, self.seconds_of_one = 0.0, seconds
        super().__init__(budget_s, lambda: self.now)

    def done(self):
        self.now += self.seconds_of_one()
        return super().done()


def timed(root, budget, engine=None, levels=(0.5,), **options):
    """Score 10 recordings."""
    for number in range(10):
        recording(root / "test_soundscapes", f"r{number}", levels)
    sample(root, *[(f"r{number}", 5) for number in range(10)])
    return submitted(root, engine, budget=budget, **options)


def test_when_the_budget_ends_the_rest_is_filled(tmp_path, capsys):
    found, (report, ledger), _ = timed(tmp_path, Budget(63.0, lambda: 10.0))
    assert len(found) == 10 and len(set(found.values())) == 1
    assert report.n_without_scores == 4  # six recordings of 10 s, and one hundredth for writing
    assert [row.reason for row in ledger.rows][-4:] == ["the time budget had ended"] * 4
    said = capsys.readouterr().err
    assert "expected end after 100 s of 63 s, too late: about 6 of 10 recordings will have scores" in said
    assert "--fallback hop or --fallback models" in said


def test_an_expected_end_within_the_budget_changes_nothing(tmp_path, capsys):
    _, (report, _), _ = timed(tmp_path, Budget(600.0, lambda: 10.0), fallback="hop")
    assert report.n_without_scores == 0
    assert "10 s per recording, expected end after 100 s of 10 min" in capsys.readouterr().err


def test_fallback_models_leaves_members_out(tmp_path, capsys):
    opened = []

    def engine(n):
        opened.append(n)
        return level_engine()

    budget = Budget(300.0, lambda: 10.0 * (opened[-1] or 4))
    _, (report, _), _ = timed(tmp_path, budget, open_engine=engine, fallback="models", n_members=4)
    assert opened == [0, 2] and report.n_without_scores == 0
    assert "the first 2 of 4 members of the ensemble score the rest" in capsys.readouterr().err
    with pytest.raises(UserError, match="--fallback models needs an ensemble"):
        submitted(tmp_path, fallback="models")


def test_fallback_hop_scores_fewer_windows(tmp_path, capsys):
    timed(tmp_path, Budget(63.0, lambda: 10.0), fallback="hop")
    assert "the hop cannot be longer" in capsys.readouterr().err
    calls = []
    engine = level_engine(on_call=lambda: calls.append(1))
    _, (report, _), _ = timed(
        tmp_path, Budget(80.0, lambda: 10.0), engine, (0.5, 0.5), hop_s=2.5, batch_size=1, fallback="hop"
    )
    assert "the hop is now 5 s instead of 2.5 s" in capsys.readouterr().err
    # three windows of each of the first four recordings and of those that were begun when the hop changed
    assert len(calls) < 3 * 8 + 2 * 4 and report.n_without_scores > 0  # the clock of this test goes on as before


def test_scores_do_not_depend_on_the_number_of_workers(tmp_path):
    texts = []
    for n_workers in (1, 3):
        for number in range(10):
            recording(tmp_path / "test_soundscapes", f"r{number}", [0.1 * number, 0.05 * number, 0.3])
        sample(tmp_path, *[(f"r{number}", end) for number in range(10) for end in (5, 10, 15)])
        submitted(tmp_path, level_engine(2.5), n_workers=n_workers)
        texts.append((tmp_path / "out.csv").read_text())
    assert texts[0] == texts[1] and len(set(texts[0].split())) == 31


def test_an_interrupted_submission_is_complete(tmp_path):
    for number in range(4):
        recording(tmp_path / "test_soundscapes", f"r{number}", [0.5])
    sample(tmp_path, *[(f"r{number}", 5) for number in range(4)])
    calls = []

    def stop():
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submitted(tmp_path, level_engine(on_call=stop))
    assert (tmp_path / "out.csv").read_text().count("0.5") == 4


@pytest.mark.parametrize(
    ("competition", "table", "message"),
    [
        ("birdclef2022", "row_id,other\na_5,0\n", r"has test\.csv with row_id, file_id, bird and end_time"),
        ("birdclef2025", "row_id,other\na_7,0\n", "end at multiples of 5 s. Received: a at 7 s"),
    ],
)
def test_tables_of_other_forms_are_refused(tmp_path, competition, table, message):
    (tmp_path / "sample_submission.csv").write_text(table)
    with pytest.raises(UserError, match=message):
        read_competition(tmp_path, COMPETITIONS[competition])


def test_competitions_are_named_with_or_without_birdclef():
    assert check_competition("2022") is check_competition("birdclef2022")
    with pytest.raises(UserError, match=r"--competition must be one of birdclef2025.*Did you mean 'birdclef2025'"):
        check_competition("birdclef25")
