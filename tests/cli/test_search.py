"""`birdnet-fs embed` and `birdnet-fs search`: an example is found where it was put, with its clip."""

import csv

import embedding_store
import encoder_runs
import numpy as np
import pytest
import soundfile
import typer
from installed import need

from birdnet_fs.cli.embed import embed
from birdnet_fs.cli.search import search
from birdnet_fs.core.errors import UserError
from birdnet_fs.search.examples import embed_examples
from birdnet_fs.search.store import read_header
from birdnet_fs.training.trainer import train

EMBED = {"overlap": 0.0, "dtype": "float16", "to": "", "batch_size": 16, "threads": 1}


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


OPTIONS = {
    "top": 3,
    "next_": 0,
    "by": "top-quantile",
    "labeled": None,
    "encoder": None,
    "card": "",
    "recordings": None,
    "threads": 1,
    "overwrite": False,
}


def run_search(place, queries, output, **options):
    search(place / "store", [str(query) for query in queries], output, **{**OPTIONS, **options})


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_an_example_is_found_where_it_was_cut_from(place, tmp_path, capsys):
    output = tmp_path / "out"
    run_search(place, [place / "example.wav"], output, recordings=place / "in")
    rows = rows_of(output / "neighbors.csv")
    assert (rows[0]["recording"], rows[0]["start_s"]) == (str(place / "in" / "r03.wav"), "0.400")
    assert float(rows[0]["score"]) > 0.999 and len(rows) == 3 and rows[0]["query"] == "example.wav"
    clip, rate = soundfile.read(output / "clips" / rows[0]["clip"])
    assert len(clip) / rate == pytest.approx(1.1)  # the margin of 2 s is cut off by the ends of the recording
    assert "r03.wav" in capsys.readouterr().out
    assert (output / "page.html").read_text().count("<audio") == 3


def test_a_recording_that_is_gone_costs_its_clip_only(place, tmp_path, capsys):
    run_search(place, [place / "example.wav"], tmp_path, top=2, recordings=tmp_path)
    assert [row["clip"] for row in rows_of(tmp_path / "neighbors.csv")] == ["", ""]
    assert "could not be cut" in capsys.readouterr().err


def test_what_to_label_next_leaves_out_what_is_labeled_and_keeps_labels_that_were_filled_in(place, tmp_path):
    output = tmp_path / "out"
    run_search(place, [], output, next_=4, by="diversity", recordings=place / "in")
    first = rows_of(output / "next.csv")
    assert len(first) == 4 and {row["chosen_as"] for row in first} == {"different"}
    with open(output / "next.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, first[0].keys())
        writer.writeheader()
        writer.writerows({**row, "label": label} for row, label in zip(first, ("owl", "", "noise", ""), strict=True))
    with pytest.raises(UserError, match="holds labels in 2 rows"):
        run_search(place, [], output, next_=4, by="diversity")
    options = {"labeled": [output / "next.csv"], "recordings": place / "in"}
    run_search(place, [place / "example.wav"], tmp_path / "more", next_=34, **options)
    more = rows_of(tmp_path / "more" / "next.csv")
    spans = {(row["recording"], row["start_s"]) for row in more}
    assert len(spans) == 34, "all windows but the two that are labeled"
    assert not spans & {(first[index]["recording"], first[index]["start_s"]) for index in (0, 2)}
    assert {row["chosen_as"].split()[0] for row in more} == {"top", "quantile"}


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
    for queries, options, message in (
        (["example.wav"], {"top": 0}, "--top must be"),
        (["example.wav"], {"by": "diversity"}, "add --next N"),
        ([], {}, r"Nothing to look for: give examples \(recordings\) or RUN:CLASS"),
        ([], {"next_": 3}, "--by top-quantile needs a run or examples"),
        ([tmp_path / "bad.wav"], {}, r"example .*bad\.wav cannot be used"),
        (["example.wav"], {"recordings": tmp_path / "gone"}, "--recordings"),
    ):
        with pytest.raises(UserError, match=message):
            run_search(place, [place / query for query in queries], tmp_path, **options)
    with pytest.raises(UserError, match="add -o FOLDER"):
        run_search(place, [place / "example.wav"], None)


def test_embed_exports_the_store(place, tmp_path):
    embed(place / "small.onnx", [place / "in"], tmp_path, card=str(place / "small.json"), **{**EMBED, "to": "csv,npy"})
    assert len(rows_of(tmp_path / "exports" / "embeddings.csv")) == 36
    assert np.load(tmp_path / "exports" / "embeddings.npy").shape == (36, embedding_store.WIDTH)


def test_embed_of_nothing_usable_exits_with_1(place, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"x")
    with pytest.raises(typer.Exit) as caught:
        embed(place / "small.onnx", [tmp_path / "bad.wav"], tmp_path / "s", card=str(place / "small.json"), **EMBED)
    assert caught.value.exit_code == 1


def test_classes_of_a_run_are_found_and_a_run_says_what_to_label_next(tmp_path, capsys):
    need("onnxruntime")
    root = encoder_runs.write_recordings(tmp_path / "in", 4)
    file, card = encoder_runs.write_encoder(tmp_path)
    run = train(encoder_runs.experiment(file, card, root), tmp_path / "run")
    embed(file, [root], tmp_path / "store", card=str(card), **EMBED)
    run_search(tmp_path, [f"{run.path}:owl"], tmp_path / "owls", top=4)
    rows = rows_of(tmp_path / "owls" / "neighbors.csv")
    assert [row["recording"].split("/")[0] for row in rows] == ["owl"] * 4 and rows[0]["query"] == "owl"
    run_search(tmp_path, [run.path], tmp_path / "next", next_=9)
    assert {row["query"] for row in rows_of(tmp_path / "next" / "next.csv")} == set(encoder_runs.KINDS)
    with pytest.raises(UserError, match=r"Name the class to look for, as .*run:CLASS\. Classes: owl, tit, wren"):
        run_search(tmp_path, [run.path], tmp_path / "all")
