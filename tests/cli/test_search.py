"""`birdnet-fs embed` and `birdnet-fs search`: an example is found where it was put, with its clip."""

import csv

import embedding_store
import numpy as np
import pytest
import soundfile
import typer

from birdnet_fs.cli.embed import embed
from birdnet_fs.cli.search import search
from birdnet_fs.core.errors import UserError
from birdnet_fs.search.examples import embed_examples
from birdnet_fs.search.store import read_header

EMBED = {"overlap": 0.0, "dtype": "float16", "shard": "0/1", "batch_size": 16, "threads": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    file, card = embedding_store.write_encoder(folder)
    waveforms = embedding_store.write_recordings(folder / "in", 6)
    soundfile.write(folder / "example.wav", waveforms["r03.wav"][6400:9600], embedding_store.RATE_HZ)
    embed(file, [folder / "in"], folder / "store", card=str(card), **EMBED)
    return folder


def test_embed_states_license_and_counts(place, capsys):
    embed(place / "small.onnx", [place / "in"], place / "store", card=str(place / "small.json"), **EMBED)
    captured = capsys.readouterr()
    assert "license CC0" in captured.err and "6 ok, 0 partial, 0 quarantined" in captured.out


def test_an_example_is_found_where_it_was_cut_from(place, tmp_path, capsys):
    output = tmp_path / "out"
    search(place / "store", [place / "example.wav"], output, top=3, encoder=None, recordings=place / "in", threads=1)
    with open(output / "neighbors.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert (rows[0]["recording"], rows[0]["start_s"]) == ("r03.wav", "0.400")
    assert float(rows[0]["similarity"]) > 0.999 and len(rows) == 3
    clip, rate = soundfile.read(output / "clips" / rows[0]["clip"])
    assert len(clip) / rate == pytest.approx(1.1)  # the margin of 2 s is cut off by the ends of the recording
    assert "r03.wav" in capsys.readouterr().out


def test_a_recording_that_is_gone_costs_its_clip_only(place, tmp_path, capsys):
    search(place / "store", [place / "example.wav"], tmp_path, top=2, encoder=None, recordings=tmp_path, threads=1)
    with open(tmp_path / "neighbors.csv", newline="") as file:
        assert [row["clip"] for row in csv.DictReader(file)] == ["", ""]
    assert "could not be cut" in capsys.readouterr().err


def test_another_or_a_missing_encoder_is_refused(place, tmp_path):
    header = read_header(place / "store")
    other, _ = embedding_store.write_encoder(tmp_path)
    content = bytearray(other.read_bytes())
    at = content.find(np.float32(embedding_store.foreign_encoders.weights(24)[0, 0]).tobytes())
    content[at] ^= 1
    other.write_bytes(content)
    with pytest.raises(UserError, match="another encoder or version"):
        embed_examples(header, [place / "example.wav"], encoder=other)
    with pytest.raises(UserError, match=r"no longer at .*--encoder FILE"):
        embed_examples(header, [place / "example.wav"], encoder=tmp_path / "gone.onnx")


def test_wrong_arguments_are_refused(place, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"x")
    rest = {"encoder": None, "recordings": None, "threads": 1}
    with pytest.raises(UserError, match="--top must be"):
        search(place / "store", [place / "example.wav"], tmp_path, top=0, **rest)
    with pytest.raises(UserError, match=r"example .*bad\.wav cannot be used"):
        search(place / "store", [tmp_path / "bad.wav"], tmp_path, top=1, **rest)
    with pytest.raises(UserError, match="--shard must be"):
        embed(place / "small.onnx", [place / "in"], place / "store", card="", **{**EMBED, "shard": "2/2"})


def test_embed_of_nothing_usable_exits_with_1(place, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"x")
    with pytest.raises(typer.Exit) as caught:
        embed(place / "small.onnx", [tmp_path / "bad.wav"], tmp_path / "s", card=str(place / "small.json"), **EMBED)
    assert caught.value.exit_code == 1
