"""Embedding of recordings: equal to NumPy, resumable, every recording with its outcome."""

import csv
import os
import random

import embedding_store
import numpy as np
import pyarrow.parquet as pq
import pytest
from killed import killed_again_and_again, leftovers

from birdnet_fs.core.errors import UserError
from birdnet_fs.inference.embedder import open_embedder
from birdnet_fs.search import embed_recordings as module
from birdnet_fs.search.embed_recordings import embed_recordings
from birdnet_fs.search.store import open_store


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    file, card = embedding_store.write_encoder(tmp_path_factory.mktemp("encoder"))
    return open_embedder(file, str(card), threads=1)


def contents(folder):
    """Rows of a store by (recording, start): end and embedding."""
    store = open_store(folder)
    rows = store.embeddings()
    return {
        (store.recordings[r].path, round(s, 6)): (round(e, 6), row.tobytes())
        for r, s, e, row in zip(store.recording, store.start_s, store.end_s, rows, strict=True)
        if r >= 0
    }


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 1e-3)])
def test_embeddings_equal_those_of_numpy_for_every_window(tmp_path, embedder, dtype, tolerance):
    waveforms = embedding_store.write_recordings(tmp_path / "in", 5)
    ledger = embed_recordings(embedder, [tmp_path / "in"], tmp_path / "store", dtype=dtype, batch_size=4)
    store = open_store(tmp_path / "store")
    assert ledger.counts() == {"ok": 5, "partial": 0, "quarantined": 0}
    assert [each.path for each in store.recordings] == sorted(waveforms)
    for number, (name, waveform) in enumerate(sorted(waveforms.items())):
        rows = np.flatnonzero(store.recording == number)
        wanted = embedding_store.embeddings(waveform)
        assert len(rows) == len(wanted) == 6, name
        np.testing.assert_allclose(store.embeddings(rows), wanted, atol=tolerance * np.abs(wanted).max())
        np.testing.assert_allclose(store.start_s[rows], 0.2 * np.arange(6), atol=1e-9)
        assert store.end_s[rows][-1] == pytest.approx(1.1) and store.end_s[rows][0] == pytest.approx(0.2)
    table = pq.read_table(next((tmp_path / "store" / "parts").glob("*.parquet")))
    assert table.column_names == ["recording", "window", "start_s", "end_s"]
    assert table["window"].to_pylist() == [*range(6)] * 5


def test_a_second_run_embeds_only_what_is_new_or_changed(tmp_path, embedder, monkeypatch):
    folder, store = tmp_path / "in", tmp_path / "store"
    embedding_store.write_recordings(folder, 4)
    embed_recordings(embedder, [folder], store)
    before = contents(store)
    n_embedded = []
    real = module._one
    monkeypatch.setattr(module, "_one", lambda *arguments: [n_embedded.append(1), real(*arguments)])
    embed_recordings(embedder, [folder], store)
    assert contents(store) == before and not n_embedded
    embedding_store.write_recordings(folder, 5)  # the first four are written again, with the same content
    os.utime(folder / "r01.wav", ns=(1, 1))
    os.replace(folder / "r03.wav", folder / "r02.wav")  # the size stays the same
    embed_recordings(embedder, [folder], store)
    assert len(n_embedded) == 2, "r02.wav has another content, r04.wav is new"
    found = contents(store)
    fresh = tmp_path / "fresh"
    embed_recordings(embedder, [folder], fresh)
    assert {key: value for key, value in found.items() if key[0] != "r03.wav"} == contents(fresh)
    assert open_store(store).recordings[-1].path == "r04.wav"


def test_interrupts_give_the_content_of_one_process(tmp_path, embedder, monkeypatch):
    folder = tmp_path / "in"
    embedding_store.write_recordings(folder, 11)
    embed_recordings(embedder, [folder], tmp_path / "whole")
    monkeypatch.setattr(module, "PART_RECORDINGS", 2)
    real, count = module._one, iter(range(1000))

    def interrupted(*arguments):
        if next(count) in (3, 8):
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(module, "_one", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            embed_recordings(embedder, [folder], tmp_path / "stopped")
    done = len(open_store(tmp_path / "stopped").recordings)
    assert 3 <= done < 11, "complete recordings must be kept"
    embed_recordings(embedder, [folder], tmp_path / "stopped")
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert not list((tmp_path / "stopped" / "parts").glob(".part*"))


@pytest.mark.parametrize("n_kills", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_embedding_that_is_killed_again_and_again_gives_the_store_of_an_undisturbed_one(tmp_path, monkeypatch, n_kills):
    file, card = embedding_store.write_encoder(tmp_path / "encoder")
    embedding_store.write_recordings(tmp_path / "in", 25)
    (tmp_path / "in" / "broken.wav").write_bytes(b"no audio at all")
    monkeypatch.setattr(module, "PART_RECORDINGS", 2)

    def embed(store):
        embed_recordings(open_embedder(file, str(card), threads=1), [tmp_path / "in"], store, batch_size=4)

    stores = tmp_path / "stores"
    stores.mkdir()
    rng = random.Random(0)
    killed_again_and_again(stores, lambda: embed(stores / "whole"), rng, 0, 1)
    n, n_half_written = killed_again_and_again(stores, lambda: embed(stores / "killed"), rng, n_kills, 40)
    print(f"embed: {n} kills, {n_half_written} of them while something was half-written")
    assert n >= 4 and n_half_written >= 1
    assert contents(stores / "killed") == contents(stores / "whole")
    ledgers = [(stores / name / "ledger.csv").read_text() for name in ("whole", "killed")]
    assert ledgers[0] == ledgers[1] and "broken.wav" in ledgers[0]
    assert leftovers(stores) == []


def test_a_broken_recording_is_listed_and_stops_nothing(tmp_path, embedder):
    folder = tmp_path / "in"
    embedding_store.write_recordings(folder, 3)
    (folder / "broken.wav").write_bytes(b"no audio at all")
    (folder / "empty.flac").write_bytes(b"")
    (folder / "gone.wav").symlink_to(folder / "nothing.wav")
    os.rename(folder / "r01.wav", os.fsencode(folder) + b"/caf\xe9.wav")
    whole = (folder / "r02.wav").read_bytes()
    (folder / "r02.wav").write_bytes(whole[: len(whole) // 2])
    ledger = embed_recordings(embedder, [folder], tmp_path / "store")
    assert ledger.counts() == {"ok": 2, "partial": 1, "quarantined": 3}
    with open(tmp_path / "store" / "ledger.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6 and all(row["reason"] for row in rows if row["status"] != "ok")
    store = open_store(tmp_path / "store")
    assert {each.path for each in store.recordings if not each.n_windows} == {"broken.wav", "empty.flac"}
    assert len(store) == 6 + 6 + 3
    assert "caf\udce9.wav" in {each.path for each in store.recordings}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap_s": 0.2}, "overlap must be 0 or more"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_wrong_arguments_are_refused_before_a_store_is_made(tmp_path, embedder, options, message):
    embedding_store.write_recordings(tmp_path / "in", 1)
    with pytest.raises(UserError, match=message):
        embed_recordings(embedder, [tmp_path / "in"], tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def test_another_recording_of_the_same_name_is_not_replaced(tmp_path, embedder):
    embedding_store.write_recordings(tmp_path / "a", 2)
    embedding_store.write_recordings(tmp_path / "b", 1)
    embed_recordings(embedder, [tmp_path / "a"], tmp_path / "store")
    before = contents(tmp_path / "store")
    embed_recordings(embedder, [tmp_path / "b"], tmp_path / "store")  # a copy of r00.wav
    assert contents(tmp_path / "store") == before
    os.replace(tmp_path / "a" / "r01.wav", tmp_path / "b" / "r00.wav")
    with pytest.raises(UserError, match=r"another recording named r00\.wav, .*give both folders in one command"):
        embed_recordings(embedder, [tmp_path / "b"], tmp_path / "store")
    os.replace(tmp_path / "b", tmp_path / "moved")
    (tmp_path / "a" / "r00.wav").unlink()
    embed_recordings(embedder, [tmp_path / "moved"], tmp_path / "store")
    assert {each.path: each.root for each in open_store(tmp_path / "store").recordings}["r00.wav"].endswith("moved")
