"""The batch with an engine whose scores are a plain function of each window, on small written recordings."""

import csv
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from level_model import CLASSES, RATE, SPEC, LevelModel, square, write_wav
from typer.testing import CliRunner

from birdnet_fs.analysis import resume
from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.combined.write import NAMES
from birdnet_fs.analysis.output import NOT_REPLACED
from birdnet_fs.analysis.table_formats import FORMATS
from birdnet_fs.cli.analyze import analyze as command
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference import open as opening
from birdnet_fs.inference.engine import Engine


def tables(folder):
    """relative name -> bytes of the tables of recordings, without ledger, stamps and tables over all recordings."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".done" not in path.parts and path.name not in ("ledger.csv", *NAMES)
    }


def ledger_rows(folder):
    with open(folder / "ledger.csv", encoding="utf-8", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def test_table_of_known_levels_is_exact(tmp_path):
    square(tmp_path / "a.wav", [0.0625, 0.125, 0.125, 0.0, 0.125])
    low, high = (1 / (1 + np.exp(6 - 60 * level)) for level in (0.0625, 0.125))
    where = tmp_path / "a.wav"
    ledger = analyze(LevelModel().engine, [where], tmp_path / "out", min_confidence=0.05, species=[CLASSES[1]])
    head = "Start (s),End (s),Scientific name,Common name,Confidence,File\n"
    rows = [(0, low), (1, high), (2, high), (4, high)]
    wanted = [f"{t}.0,{t + 1}.0,Parus major,Great Tit,{p:.4f},{where}\n" for t, p in rows]
    assert (tmp_path / "out" / "a.BirdNET.results.csv").read_text() == head + "".join(wanted)
    assert ledger.counts() == {"ok": 1, "partial": 0, "quarantined": 0}

    analyze(
        LevelModel().engine,
        [where],
        tmp_path / "joined",
        min_confidence=0.05,
        species=[CLASSES[1]],
        merge_consecutive=0,
    )
    spans = [("0.0", "3.0", high), ("4.0", "5.0", high)]
    wanted = [f"{a},{b},Parus major,Great Tit,{p:.4f},{where}\n" for a, b, p in spans]
    assert (tmp_path / "joined" / "a.BirdNET.results.csv").read_text() == head + "".join(wanted)


def test_paths_in_tables_are_absolute_where_relative_ones_are_given(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    square(tmp_path / "site" / "a.wav", [0.125])
    monkeypatch.chdir(tmp_path)
    formats = tuple(FORMATS)
    analyze(LevelModel().engine, [Path("site")], tmp_path / "one", min_confidence=0.05, formats=formats)
    analyze(LevelModel().engine, [tmp_path / "site"], tmp_path / "other", min_confidence=0.05, formats=formats)
    found = tables(tmp_path / "one")
    assert found == tables(tmp_path / "other") and str(tmp_path / "site").encode() in b"".join(found.values())


def test_times_of_overlapping_windows_and_of_the_rest(tmp_path):
    write_wav(tmp_path / "a.wav", 3.625)
    analyze(LevelModel().engine, [tmp_path], tmp_path / "out", formats=["audacity"], overlap_s=0.25, top_n=1)
    rows = [line.split("\t") for line in (tmp_path / "out" / "a.BirdNET.results.txt").read_text().splitlines()]
    # windows every 0.75 s; after the one at 2.25 s, 0.375 s are left: below half a segment, dropped
    assert [row[:2] for row in rows] == [["0.0", "1.0"], ["0.75", "1.75"], ["1.5", "2.5"], ["2.25", "3.25"]]
    write_wav(tmp_path / "b.wav", 3.875)
    analyze(LevelModel().engine, [tmp_path], tmp_path / "out", formats=["audacity"], overlap_s=0.25, top_n=1)
    last = (tmp_path / "out" / "b.BirdNET.results.txt").read_text().splitlines()[-1]
    assert last.split("\t")[:2] == ["3.0", "3.875"]


def test_top_n_alone_has_no_threshold(tmp_path):
    write_wav(tmp_path / "a.wav", 4, level=0.01)
    for given, count in (({}, 0), ({"top_n": 2}, 8), ({"top_n": 2, "min_confidence": 0.5}, 0)):
        analyze(LevelModel().engine, [tmp_path / "a.wav"], tmp_path / "out", formats=["audacity"], **given)
        assert (tmp_path / "out" / "a.BirdNET.results.txt").read_text().count("\n") == count


def test_broken_recordings_do_not_change_other_tables(tmp_path):
    clean = tmp_path / "clean"
    for number in range(36):
        write_wav(clean / f"site{number % 3}" / f"r{number:02d}.wav", 1.5 + 0.25 * (number % 5), seed=number)
    formats = list(FORMATS)
    root = tmp_path / "rec"
    shutil.copytree(clean, root)
    analyze(LevelModel().engine, [root], tmp_path / "out1", formats=formats)

    (root / "site0" / "r00a.wav").write_bytes(b"")
    (root / "site1" / "junk.wav").write_bytes(os.urandom(3000))
    (root / "page.mp3").write_bytes(b"<html><body>404</body></html>" * 20)
    (root / "site2" / "head.flac").write_bytes(b"fLaC" + bytes(100))
    ledger = analyze(LevelModel().engine, [root], tmp_path / "out2", formats=formats)

    first, second = tables(tmp_path / "out1"), tables(tmp_path / "out2")
    assert first == second
    assert len(first) == 36 * len(formats)
    assert sum(len(text) for text in first.values()) > 36 * 200  # there are detections to compare
    assert ledger.counts() == {"ok": 36, "partial": 0, "quarantined": 4}
    rows = ledger_rows(tmp_path / "out2")
    bad = {Path(path).name for path, row in rows.items() if row["status"] == "quarantined" and row["reason"]}
    assert len(rows) == 40
    assert bad == {"r00a.wav", "junk.wav", "page.mp3", "head.flac"}


def test_batch_size_does_not_change_tables(tmp_path):
    write_wav(tmp_path / "rec" / "a.wav", 7.5)
    for size in (1, 3, 64):
        analyze(LevelModel().engine, [tmp_path / "rec"], tmp_path / str(size), batch_size=size)
    assert tables(tmp_path / "1") == tables(tmp_path / "3") == tables(tmp_path / "64")


def test_interrupted_analysis_is_resumed(tmp_path):
    for number in range(6):
        write_wav(tmp_path / "rec" / f"r{number}.wav", 5, seed=number)
    whole = LevelModel()
    analyze(whole.engine, [tmp_path / "rec"], tmp_path / "whole", formats=["raven", "csv"])
    assert whole.n_windows == 30

    with pytest.raises(KeyboardInterrupt):
        analyze(LevelModel(stop_after=17).engine, [tmp_path / "rec"], tmp_path / "out", formats=["raven", "csv"])
    half = tables(tmp_path / "out")
    assert len(half) == 6  # three recordings are whole, the fourth left nothing
    assert len(ledger_rows(tmp_path / "out")) == 3
    rest = LevelModel()
    analyze(rest.engine, [tmp_path / "rec"], tmp_path / "out", formats=["raven", "csv"])
    assert rest.n_windows == 15
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")
    assert (tmp_path / "out" / "ledger.csv").read_bytes() == (tmp_path / "whole" / "ledger.csv").read_bytes()


def test_recordings_are_analyzed_again_when_something_changed(tmp_path):
    write_wav(tmp_path / "rec" / "a.wav", 5)
    write_wav(tmp_path / "rec" / "b.wav", 5, seed=1)

    def n_done(**changes):
        model = LevelModel()
        analyze(model.engine, [tmp_path / "rec"], tmp_path / "out", **changes)
        return model.n_windows // 5

    assert n_done() == 2
    assert n_done() == n_done(batch_size=2) == 0
    assert n_done(overwrite=True) == 2
    assert n_done(min_confidence=0.3) == 2
    assert n_done(min_confidence=0.3, formats=["csv", "raven"]) == 0  # made of the stored detections
    (tmp_path / "out" / "a.BirdNET.results.csv").unlink()
    assert n_done(min_confidence=0.3, formats=["csv", "raven"]) == 0
    assert len(tables(tmp_path / "out")) == 4
    write_wav(tmp_path / "rec" / "b.wav", 5, seed=2)
    os.utime(tmp_path / "rec" / "b.wav", (1, 1))
    assert n_done(min_confidence=0.3, formats=["csv", "raven"]) == 1
    write_wav(tmp_path / "rec" / "b.wav", 5, seed=3)  # another recording of the same size and time, as of another card
    os.utime(tmp_path / "rec" / "b.wav", (1, 1))
    assert n_done(min_confidence=0.3, formats=["csv", "raven"]) == 1
    for stamp in (tmp_path / "out" / ".done").glob("*.*"):
        stamp.write_text("{")
    assert n_done(min_confidence=0.3, formats=["csv", "raven"]) == 2  # the same tables, which are taken
    assert n_done(min_confidence=0.3, formats=["csv", "raven"]) == 0
    other = LevelModel()
    changed = Engine(CLASSES, SPEC, "sigmoid", "fake 2", other.forward)
    analyze(changed, [tmp_path / "rec"], tmp_path / "out", min_confidence=0.3, formats=["csv", "raven"])
    assert other.n_windows == 10


def test_edited_table_is_kept_and_named(tmp_path, capsys):
    write_wav(tmp_path / "rec" / "a.wav", 5)
    write_wav(tmp_path / "rec" / "b.wav", 5, seed=1)

    def run(**changes):
        ledger = analyze(LevelModel().engine, [tmp_path / "rec"], tmp_path / "out", **changes)
        return [NOT_REPLACED in row.flags for row in ledger.rows], capsys.readouterr().err

    run()
    edited = tmp_path / "out" / "a.BirdNET.results.csv"
    edited.write_text("corrected by hand")
    flags, said = run()  # finished: nothing is missing
    assert flags == [False, False] and "1 tables were changed since" in said and edited.name in said
    flags, said = run(min_confidence=0.3)
    assert flags == [True, False]
    assert "1 tables were not replaced, because they were changed since they were written, or were not" in said
    assert edited.name in said and "--overwrite" in said
    assert "table_not_replaced" in ledger_rows(tmp_path / "out")[str(tmp_path / "rec" / "a.wav")]["flags"]
    assert edited.read_text() == "corrected by hand"
    run(min_confidence=0.3, overwrite=True)
    assert edited.read_text().startswith("Start (s)")
    foreign = tmp_path / "new" / "a.BirdNET.results.csv"
    foreign.parent.mkdir()
    foreign.write_text("of another program")
    flags = [NOT_REPLACED in r.flags for r in analyze(LevelModel().engine, [tmp_path / "rec"], foreign.parent).rows]
    assert flags == [True, False] and foreign.read_text() == "of another program"


def test_earlier_tables_do_not_stay_beside_new_ones_unsaid(tmp_path, capsys):
    for name in ("a.wav", "b.wav", "sub/c.wav"):
        write_wav(tmp_path / "rec" / name, 5)

    def run(what="rec", **changes):
        analyze(LevelModel().engine, [tmp_path / what], tmp_path / "out", **changes)
        return capsys.readouterr().err

    run(formats=["csv", "audacity"])
    run(formats=["raven"])  # of the same settings: all tables are true
    assert len(tables(tmp_path / "out")) == 9
    (tmp_path / "out" / "b.BirdNET.results.txt").write_text("corrected by hand")
    said = run(formats=["csv"], min_confidence=0.3)
    assert sorted(tables(tmp_path / "out")) == [
        "a.BirdNET.results.csv",
        "b.BirdNET.results.csv",
        "b.BirdNET.results.txt",
        "sub/c.BirdNET.results.csv",
    ]
    assert "5 tables of earlier formats, names or settings were removed: " in said
    assert "1 tables of earlier formats, names or settings were changed since, and stay: b.BirdNET.results.txt." in said
    said = run("rec/a.wav", formats=["csv"], min_confidence=0.4)
    assert "also holds the tables of 2 recordings that were not among these, of other settings" in said
    assert "also holds" not in run(formats=["csv"], min_confidence=0.4)


def test_tables_of_other_recordings_with_the_same_names_are_not_replaced(tmp_path, capsys):
    write_wav(tmp_path / "card1" / "0001.wav", 5)
    write_wav(tmp_path / "card2" / "0001.wav", 3, seed=1)
    write_wav(tmp_path / "card2" / "0002.wav", 3, seed=2)

    def run(*names, to="out", **changes):
        return analyze(LevelModel().engine, [tmp_path / name for name in names], tmp_path / to, **changes)

    run("card1")
    first = tables(tmp_path / "out")
    with pytest.raises(UserError, match=r"holds the tables of 1 other recordings .*card2/0001.wav.*card1/0001.wav"):
        run("card2")
    assert tables(tmp_path / "out") == first
    run("card2/0002.wav")
    paths = [Path(path) for path in ledger_rows(tmp_path / "out")]
    assert paths == [tmp_path / "card2" / "0002.wav", tmp_path / "card1" / "0001.wav"]
    run("card1", "card2", to="both")
    assert len(tables(tmp_path / "both")) == 3
    shutil.copytree(tmp_path / "card1", tmp_path / "copy")  # the same recording elsewhere
    run("copy")
    assert str(tmp_path / "copy") in tables(tmp_path / "out")["0001.BirdNET.results.csv"].decode()
    run("card2", overwrite=True)
    assert str(tmp_path / "card2") in tables(tmp_path / "out")["0001.BirdNET.results.csv"].decode()


def test_recordings_that_differ_in_their_extension_have_different_tables(tmp_path, capsys):
    for number, name in enumerate(("a.wav", "a.flac", "a.wav.ogg")):
        write_wav(tmp_path / "whole.wav", 3, seed=number)
        sound, rate = soundfile.read(tmp_path / "whole.wav")
        (tmp_path / "rec").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "rec" / name, sound, rate)

    def run(*names, to="out"):
        analyze(LevelModel().engine, [tmp_path / name for name in names], tmp_path / to, top_n=1)
        found = {}
        for name, text in tables(tmp_path / to).items():
            paths = {row["File"] for row in csv.DictReader(text.decode().splitlines())}
            assert len(paths) == 1
            found[name.removesuffix(".BirdNET.results.csv")] = Path(paths.pop()).name
        return found

    three = {"a.wav": "a.wav", "a.flac": "a.flac", "a.wav.ogg": "a.wav.ogg"}
    assert run("rec") == three
    assert run("rec/a.wav", to="turns") == {"a": "a.wav"}
    assert run("rec/a.flac", to="turns") == {"a": "a.wav", "a.flac": "a.flac"}
    assert run("rec", to="turns") == three
    assert "were removed: a.BirdNET.results.csv" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_killed_analysis_goes_on_between_tables_and_stamps(tmp_path, monkeypatch, stop):
    write_wav(tmp_path / "rec" / "a.wav", 5)
    whole = {"formats": ["csv", "raven"]}
    analyze(LevelModel().engine, [tmp_path / "rec"], tmp_path / "out", min_confidence=0.0, **whole)
    wanted = tables(tmp_path / "out")
    true, n_writes = resume.write_text, []

    def killed(path, text):
        n_writes.append(path)
        if len(n_writes) == stop:
            raise KeyboardInterrupt
        true(path, text)

    monkeypatch.setattr(resume, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        analyze(LevelModel().engine, [tmp_path / "rec"], tmp_path / "out", min_confidence=0.9, **whole)
    monkeypatch.undo()
    ledger = analyze(LevelModel().engine, [tmp_path / "rec"], tmp_path / "out", min_confidence=0.0, **whole)
    assert tables(tmp_path / "out") == wanted and ledger.rows[0].flags == ()


def test_tables_are_in_the_folders_of_the_inputs(tmp_path):
    for name in ("x/a.wav", "x/A.flac", "x/deep [1]/b.wav", "y/a.wav", f"y/{'n' * 250}.wav"):
        write_wav(tmp_path / "rec" / name, 1.0)
    one = tmp_path / "rec" / "x" / "a.wav"
    ledger = analyze(LevelModel().engine, [tmp_path / "rec" / "x", one, tmp_path / "rec" / "y"], tmp_path / "out")
    assert len(ledger.rows) == 5
    names = sorted(tables(tmp_path / "out"))
    end = ".BirdNET.results.csv"
    assert names[:4] == [f"x/A.flac{end}", f"x/a.wav{end}", f"x/deep [1]/b{end}", f"y/a{end}"]
    assert len(names) == 5
    assert names[4].startswith("y/" + "n" * 160)


@pytest.mark.skipif(os.name != "posix", reason="names as bytes are POSIX")
def test_recording_with_a_name_that_is_not_utf8(tmp_path):
    write_wav(tmp_path / "plain.wav", 2)
    folder = tmp_path / "rec"
    folder.mkdir()
    odd = os.fsencode(folder) + b"/tab\tline\n\xff.wav"
    try:
        shutil.copy(tmp_path / "plain.wav", odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    ledger = analyze(LevelModel().engine, [folder], tmp_path / "out", formats=list(FORMATS), top_n=1)
    assert ledger.counts()["ok"] == 1
    for data in tables(tmp_path / "out").values():
        lines = data.decode("utf-8").splitlines()
        assert len(lines) in (2, 3)  # audacity has no header


def test_recording_with_nan_scores_is_quarantined(tmp_path):
    write_wav(tmp_path / "rec" / "a.wav", 2)
    write_wav(tmp_path / "rec" / "b.wav", 2, level=0.5)
    model = LevelModel()

    def forward(waveforms):
        return np.where(waveforms.std(1, keepdims=True) > 0.3, np.nan, model.forward(waveforms))

    engine = Engine(CLASSES, SPEC, "sigmoid", "fake", forward)
    ledger = analyze(engine, [tmp_path / "rec"], tmp_path / "out")
    assert [(Path(row.path).name, row.status) for row in ledger.rows] == [("a.wav", "ok"), ("b.wav", "quarantined")]
    assert "NaN or infinity" in ledger.rows[1].reason


def test_long_recording_is_analyzed_in_constant_memory(tmp_path):
    n_minutes = 10
    rng = np.random.default_rng(0)
    with soundfile.SoundFile(tmp_path / "long.wav", "w", RATE, 1, "PCM_16") as file:
        for _ in range(n_minutes):
            file.write(rng.normal(0, 0.05, 60 * RATE).clip(-1, 1))
    model = LevelModel()
    tracemalloc.start()
    analyze(model.engine, [tmp_path / "long.wav"], tmp_path / "out", min_confidence=0.9, batch_size=16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert model.n_windows == n_minutes * 60
    whole = n_minutes * 60 * RATE * 4
    assert peak < whole / 2, f"{peak / 1e6:.1f} MB for a recording of {whole / 1e6:.1f} MB"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"min_confidence": -0.1}, "min_conf must be in 0..1. Received: -0.1"),
        ({"min_confidence": float("nan")}, "min_conf must be in 0..1. Received: nan"),
        ({"min_confidence": 25}, "min_conf must be in 0..1. Received: 25"),
        ({"overlap_s": 1.0}, "overlap must be 0 or more and below the model's segment of 1 s. Received: 1 s"),
        ({"overlap_s": -1.0}, "Received: -1 s"),
        ({"top_n": -1}, "top_n must be 0"),
        ({"merge_consecutive": -2}, "merge_consecutive must be 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more. Received: 0"),
        ({"formats": ["xml"]}, "Unknown output format 'xml'"),
        ({"species": ["Corvus corax"]}, "None of the 1 names"),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, given, words):
    write_wav(tmp_path / "a.wav", 1)
    with pytest.raises(UserError) as caught:
        analyze(LevelModel().engine, [tmp_path], tmp_path / "out", **given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_inputs_and_output_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for inputs, words in (([], "Expected at least one"), (["absent"], "does not exist"), (["empty"], "No recordings")):
        with pytest.raises(UserError, match=words):
            analyze(LevelModel().engine, [tmp_path / name for name in inputs], tmp_path / "out")
    write_wav(tmp_path / "a.wav", 1)
    (tmp_path / "taken").write_text("a file")
    model = LevelModel()
    with pytest.raises(UserError, match="Results cannot be written"):
        analyze(model.engine, [tmp_path / "a.wav"], tmp_path / "taken")
    assert model.n_windows == 0  # found out before the work, not after


def test_command_writes_tables_and_prints_counts(tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(command)
    monkeypatch.setattr(opening, "open_engine", lambda path, **_: LevelModel().engine)
    monkeypatch.setattr("birdnet_fs.cli.analyze._check", lambda *_: None)  # the model is not a file here
    write_wav(tmp_path / "rec" / "a.wav", 3)
    (tmp_path / "rec" / "b.wav").write_bytes(b"")
    out = tmp_path / "out"
    given = ["model", str(tmp_path / "rec"), "-o", str(out), "--rtype", "raven, audacity", "--min_conf", "0.1"]
    given += ["--overlap", "0.5", "--top_n", "1", "--merge_consecutive", "2", "--batch_size", "4"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"1 ok, 0 partial, 1 quarantined; {out / 'ledger.csv'}\n"
    assert sorted(tables(out)) == ["a.BirdNET.results.txt", "a.BirdNET.selection.table.txt"]
    only_bad = CliRunner().invoke(app, ["model", str(tmp_path / "rec" / "b.wav"), "-o", str(out)])
    assert only_bad.exit_code == 1


@pytest.mark.shared
def test_real_recordings_have_windows_to_their_end(shared_data, tmp_path):
    paths = sorted((shared_data / "audio").iterdir())[:: 560 // 6][:6]
    model = LevelModel()
    ledger = analyze(model.engine, paths, tmp_path / "out", formats=["raven"], top_n=1)
    assert ledger.counts()["ok"] == len(paths)
    for path, row in zip(paths, ledger.rows, strict=True):
        seconds = soundfile.info(path).duration
        assert row.duration_s == pytest.approx(seconds, abs=1e-3)
        with open(tmp_path / "out" / f"{path.stem}.BirdNET.selection.table.txt", encoding="utf-8") as file:
            ends = [float(r["End Time (s)"]) for r in csv.DictReader(file, delimiter="\t")]
        assert len(ends) == int(seconds) + (seconds % 1 >= 0.5)
        assert max(ends) <= seconds + 1e-3
