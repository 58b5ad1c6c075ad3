"""The tables over all recordings: complete after every call, and never with a recording that is stale."""

import csv
import importlib.util

import numpy as np
import pytest
from level_model import CLASSES, LevelModel, square, write_wav

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.combined.options import table_options
from birdnet_fs.analysis.combined.summary import Summary
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.engine import Engine


def rows(folder, name="detections.csv"):
    with open(folder / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted({row["path"].rpartition("/")[2] for row in rows(folder)})


@pytest.fixture
def run(tmp_path):
    for name in ("a.wav", "site/b.wav", "site/c.wav"):
        write_wav(tmp_path / "rec" / name, 3)

    def analyzed(*given, stop_after=10**9, identity="fake 1", combined="csv", **options):
        model = LevelModel(stop_after)
        style = {key: options.pop(key) for key in ("relative_paths", "full_precision") if key in options}
        zones = (options.pop("timezone", ""), options.pop("recorder_timezone", ""))
        engine = Engine(CLASSES, model.engine.frontend, "sigmoid", identity, model.forward)
        inputs = [tmp_path / each for each in given or ("rec",)]
        tables = table_options(combined, *zones, **style)
        analyze(engine, inputs, tmp_path / "out", table_options=tables, min_confidence=0.1, **options)
        return model.n_windows

    return analyzed


def test_table_holds_every_recording_after_an_interrupted_call(run, tmp_path):
    out = tmp_path / "out"
    run()
    whole = (out / "detections.csv").read_bytes()
    assert names(out) == ["a.wav", "b.wav", "c.wav"] and len(rows(out)) == 27
    (out / "detections.csv").unlink()
    for stored in (out / ".done").glob("*.json"):
        stored.unlink()
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=5)
    assert not (out / "detections.csv").exists()
    assert run() == 6
    assert (out / "detections.csv").read_bytes() == whole
    assert run() == 0 and (out / "detections.csv").read_bytes() == whole


def test_table_of_an_interrupted_call_with_other_settings_is_not_the_earlier_one(run, tmp_path):
    run()
    with pytest.raises(KeyboardInterrupt):
        run(stop_after=5, identity="fake 2")
    assert not (tmp_path / "out" / "detections.csv").exists() and not (tmp_path / "out" / "summary.csv").exists()


def test_stale_recordings_are_not_in_the_table(run, tmp_path):
    out, rec = tmp_path / "out", tmp_path / "rec"
    run()
    (rec / "a.wav").rename(rec / "d.wav")
    run()
    assert names(out) == ["b.wav", "c.wav", "d.wav"]
    (rec / "d.wav").write_bytes(b"")  # quarantined now
    run()
    assert names(out) == ["b.wav", "c.wav"]
    write_wav(rec / "site" / "b.wav", 1, seed=7)
    assert run() == 1
    assert len(rows(out)) == 3 + 9
    write_wav(rec / "site" / "c.wav", 1, seed=8)  # changed, and not among the inputs of the next call
    run("rec/site/b.wav")
    assert names(out) == ["b.wav"]
    run(identity="fake 2")
    assert names(out) == ["b.wav", "c.wav"] and len(rows(out)) == 6
    (out / "c.BirdNET.results.csv").unlink(missing_ok=True)
    for stored in (out / ".done").glob("*.detections"):
        stored.write_text(stored.read_text().replace("fake", "x") + " ")
    assert run(identity="fake 2") == 2 and len(rows(out)) == 6


def test_recording_whose_stored_detections_are_gone_is_scored_again(run, tmp_path):
    run()
    whole = (tmp_path / "out" / "detections.csv").read_bytes()
    next((tmp_path / "out" / ".done").glob("*.detections")).unlink()  # or the folder is of an earlier version
    assert run() == 3 and (tmp_path / "out" / "detections.csv").read_bytes() == whole


def test_recordings_of_earlier_calls_with_the_same_settings_are_in_the_table(run, tmp_path):
    run("rec/a.wav")
    run("rec/site")
    assert names(tmp_path / "out") == ["a.wav", "b.wav", "c.wav"]


def test_edited_table_is_refused_before_anything_is_scored(run, tmp_path):
    run()
    edited = tmp_path / "out" / "detections.csv"
    edited.write_text("corrected by hand")
    with pytest.raises(UserError, match=r"detections.csv was changed since it was written"):
        run(identity="fake 2")
    assert edited.read_text() == "corrected by hand"
    run(overwrite=True)
    assert len(rows(tmp_path / "out")) == 27


def test_table_is_written_again_after_a_call_that_was_killed_while_writing_it(run, tmp_path, monkeypatch):
    def killed(self, folder):
        raise KeyboardInterrupt

    monkeypatch.setattr(Summary, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert (tmp_path / "out" / "detections.csv").exists() and not (tmp_path / "out" / "summary.csv").exists()
    assert run() == 0 and len(rows(tmp_path / "out")) == 27 and (tmp_path / "out" / "summary.csv").exists()


def test_rows_are_exact(tmp_path, run):
    square(tmp_path / "rec" / "20240501_235959.wav", [0.0, 0.125])
    run("rec/20240501_235959.wav", timezone="Europe/Zurich", relative_paths=True, top_n=1)
    text = (tmp_path / "out" / "detections.csv").read_text(encoding="utf-8")
    assert text == (
        "path,start_s,end_s,start_time,end_time,label,scientific_name,common_name,confidence\n"
        "20240501_235959.wav,1.0,2.0,2024-05-02T00:00:00.000+02:00,2024-05-02T00:00:01.000+02:00,"
        "Turdus merula_Eurasian Blackbird,Turdus merula,Eurasian Blackbird,0.8176\n"  # 1 / (1 + exp(6 - 60 / 8))
    )
    table = tmp_path / "out" / "20240501_235959.BirdNET.results.csv"
    assert table.read_text().endswith("0.8176,20240501_235959.wav\n")
    run("rec/20240501_235959.wav", full_precision=True, top_n=1)
    [row] = rows(tmp_path / "out")
    assert table.read_text().splitlines()[1].split(",")[4] == row["confidence"]
    assert len(row["confidence"]) == 11 and float(row["confidence"]) == pytest.approx(1 / (1 + np.exp(-1.5)), rel=1e-6)


def test_local_times_without_zone_are_written_and_said(tmp_path, run, capsys):
    square(tmp_path / "rec" / "20240501_053000.wav", [0.125])
    run()
    said = capsys.readouterr().err
    assert "1 of 4 recordings have local times without a time zone" in said and "--timezone" in said
    assert "3 of 4 recordings have no clock times (the first, a.wav: the name holds no date and time)" in said
    times = {row["start_time"] for row in rows(tmp_path / "out")}
    assert times == {"", "2024-05-01T05:30:00.000"}


def test_summaries_count_hours_and_detections(tmp_path, run):
    rec = tmp_path / "rec"
    square(rec / "20240501_055958.wav", [0.125] * 4)  # two seconds before six o'clock
    write_wav(rec / "20240501_070000.wav", 2, level=0.0)
    run("rec/20240501_055958.wav", "rec/20240501_070000.wav", timezone="UTC", top_n=1, relative_paths=True)
    loud, silent = rows(tmp_path / "out", "summary.csv")
    assert loud["path"] == "20240501_055958.wav" and loud["start_time"] == "2024-05-01T05:59:58.000+00:00"
    assert (loud["n_detections"], loud["hour_05"], loud["hour_06"], loud["hour_07"]) == ("4", "2", "2", "0")
    assert (loud["hours_recorded"], loud["detections_per_hour"]) == ("0.001111", "3600.0000")
    assert (loud["common_name"], loud["max_confidence"]) == ("Eurasian Blackbird", "0.8176")
    assert (silent["label"], silent["n_detections"], silent["hours_recorded"]) == ("", "0", "0.000556")
    activity = rows(tmp_path / "out", "activity.csv")
    assert [(row["hour"], row["n_detections"], row["detections_per_hour"]) for row in activity] == [
        ("5", "2", "3600.0000"),
        ("6", "2", "3600.0000"),
        ("7", "0", "0.0000"),
    ]


def test_parquet_holds_the_rows_of_the_csv(tmp_path, run):
    import pandas as pd

    run(combined="csv,parquet")
    one, other = (
        pd.read_csv(tmp_path / "out" / "detections.csv", keep_default_na=False),
        pd.read_parquet(tmp_path / "out" / "detections.parquet"),
    )
    assert one.to_dict("records") == other.to_dict("records") and len(one) == 27
    run("rec", combined="parquet", species=["Parus major"])
    assert not (tmp_path / "out" / "detections.csv").exists()


def test_options_are_checked(monkeypatch):
    assert table_options("none").combined == ()
    for given, words in (("", "must name one or more"), ("parqet", "Did you mean 'parquet'"), ("csv,none", "'none'")):
        with pytest.raises(UserError, match=words):
            table_options(given)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs pyarrow: pip install"):
        table_options("parquet")
