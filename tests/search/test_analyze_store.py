"""Analysis of a store: the tables of the recordings themselves, every recording in the ledger, audio not read."""

import csv
import shutil

import encoder_runs
import numpy as np
import pytest
import tolerances
from installed import need

from birdnet_fs.analysis.analyze import analyze
from birdnet_fs.analysis.combined.summary import ACTIVITY, SUMMARY
from birdnet_fs.cli.analyze import analyze as command
from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.inference.open import open_engine
from birdnet_fs.search.analyze_store import analyze_store
from birdnet_fs.search.embed_recordings import embed_recordings
from birdnet_fs.search.exports import export_store
from birdnet_fs.search.open_any_store import open_any_store
from birdnet_fs.search.store import open_store
from birdnet_fs.training.trainer import train

need("onnxruntime")
OPTIONS = {"formats": ("csv", "raven", "kaleidoscope", "birdnet"), "min_confidence": 0.1, "merge_consecutive": 0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("analyze")
    root = encoder_runs.write_recordings(folder / "in", 3)
    file, card = encoder_runs.write_encoder(folder / "encoder")
    run = train(encoder_runs.experiment(file, card, root), folder / "run")
    encoder_runs.broken(root)
    for dtype in ("float32", "float16"):
        embed_recordings(open_embedder(file, str(card)), [root], folder / dtype, dtype=dtype, overlap_s=0.05)
    analyze(open_engine(run.path), [root], folder / "audio", overlap_s=0.05, **OPTIONS)
    return folder, run.path


def tables(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and ".done" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files if path.name[0] != "."}


def test_tables_are_those_of_the_recordings(place, tmp_path):
    folder, run = place
    ledger = analyze_store(run, open_store(folder / "float32"), tmp_path, **OPTIONS)
    assert ledger.counts() == {"ok": 9, "partial": 0, "quarantined": 1}
    expected, found = tables(folder / "audio"), tables(tmp_path)
    assert expected.keys() == found.keys() and len(found) == 1 + 3 + 4 * 9
    for name, text in expected.items():
        if name != "ledger.csv":
            assert found[name] == text, name
    with open(tmp_path / "ledger.csv", newline="") as file:
        rows = {row["path"]: (row["status"], row["duration_s"]) for row in csv.DictReader(file)}
    with open(folder / "audio" / "ledger.csv", newline="") as file:
        assert rows == {row["path"]: (row["status"], row["duration_s"]) for row in csv.DictReader(file)}


def test_float16_changes_confidences_by_its_rounding(place, tmp_path):
    folder, run = place
    for dtype in ("float32", "float16"):
        analyze_store(run, open_store(folder / dtype), tmp_path / dtype, min_confidence=0.0)
    for name in ("owl/owl0*", "tit/tit2*"):
        values = []
        for dtype in ("float32", "float16"):
            with open(next((tmp_path / dtype).glob(name)), newline="") as file:
                rows = list(csv.DictReader(file))
            column = next(key for key in rows[0] if key.lower() == "confidence")
            values.append(sorted(float(row[column]) for row in rows))
        np.testing.assert_allclose(values[0], values[1], atol=tolerances.FLOAT16_HEAD)


def test_audio_is_not_read(place, tmp_path):
    folder, run = place
    shutil.move(folder / "in", folder / "away")
    try:
        assert analyze_store(run, open_store(folder / "float32"), tmp_path).counts()["ok"] == 9
    finally:
        shutil.move(folder / "away", folder / "in")


def test_a_database_of_perch_hoplite_gives_the_tables_of_the_store_it_was_written_from(place, tmp_path):
    need("usearch")
    folder, run = place
    store = open_store(folder / "float16")
    database = open_any_store(export_store(store, "hoplite"))
    analyze_store(run, store, tmp_path / "store", **OPTIONS)
    ledger = analyze_store(run, database, tmp_path / "database", **OPTIONS)
    assert ledger.counts() == {"ok": 9, "partial": 0, "quarantined": 1}  # the broken file, without a window
    expected, found = tables(tmp_path / "store"), tables(tmp_path / "database")
    assert expected.keys() == found.keys() and len(found) == 1 + 3 + 4 * 9
    for name, text in expected.items():
        if name not in (
            "ledger.csv",
            SUMMARY,
            ACTIVITY,
        ):  # a database holds neither the folder of the recordings nor their lengths
            same_place = text.replace(f"{folder / 'in'}/", "").replace(str(folder / "in"), ".")
            assert found[name] == same_place, name


def test_the_command_takes_one_store_and_refuses_an_overlap(place, tmp_path, capsys):
    folder, run = place
    rest = {"rtype": "csv", "min_conf": None, "top_n": 0, "merge_consecutive": 1, "slist": None, "batch_size": 32}
    rest |= {"threads": 0, "overwrite": False}
    command(run, [folder / "float16"], tmp_path / "out", overlap=0.0, **rest)
    assert "9 ok, 0 partial, 1 quarantined" in capsys.readouterr().out
    with pytest.raises(UserError, match="--overlap has no effect"):
        command(run, [folder / "float16"], tmp_path / "other", overlap=0.1, **rest)
    with pytest.raises(UserError, match="One embedding store"):
        command(run, [folder / "float16", folder / "in"], tmp_path / "other", overlap=0.0, **rest)
