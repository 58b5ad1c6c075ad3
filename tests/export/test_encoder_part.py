"""The encoder that is joined in front of a head: what is read of it, and runs that cannot be joined."""

import dataclasses
import json
import shutil
from pathlib import Path

import foreign_encoders
import perch_stand_in
import pytest
from installed import need
from joined_heads import ONNX, OWN_COLUMNS, TFLITE, make_run, write_labels
from run_to_export import make_run as make_network
from run_to_export import small_run_on

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import sha256
from birdnet_fs.encoders.reference import read_encoders, write_encoders
from birdnet_fs.export.encoder_part import encoder_part

need("ai_edge_litert")


@pytest.fixture
def encoder(tmp_path: Path) -> tuple[Path, str]:
    """(file, card) of a TFLite stand-in."""
    file = foreign_encoders.write_tflite(tmp_path / "small.tflite", TFLITE.n_samples, TFLITE.width, 9)
    (tmp_path / "small.json").write_text(json.dumps(TFLITE.to_json()))
    return file, str(tmp_path / "small.json")


def test_part_describes_the_file_and_its_license(encoder, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *encoder)
    part = encoder_part(run)
    assert part is not None
    assert (part.path, part.card, part.format, part.batch) == (encoder[0], TFLITE, "tflite", None)
    assert part.sha256 == sha256(encoder[0]) and part.license == "CC BY-NC 4.0"
    assert part.license_sentence.startswith("The file contains the encoder A small one, whose license is CC BY-NC 4.0:")


def test_networks_of_this_package_have_none(tmp_path: Path) -> None:
    assert encoder_part(small_run_on(tmp_path, tmp_path / "run")) is None


def test_an_exported_file_of_this_package_has_no_license_of_another(encoder, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", *encoder)
    found = read_encoders(run.path)
    write_encoders(run.path, dataclasses.replace(found, encoders=(dataclasses.replace(found.encoders[0], license=""),)))
    part = encoder_part(run)
    assert part is not None and part.license_sentence == ""


def test_one_window_per_call_is_kept_and_several_are_refused(encoder, tmp_path: Path) -> None:
    for n in (1, 4):
        file = foreign_encoders.write_tflite(tmp_path / f"{n}.tflite", TFLITE.n_samples, TFLITE.width, 9, batch=n)
        run = make_run(tmp_path / f"run_{n}", file, encoder[1])
        if n == 1:
            part = encoder_part(run)
            assert part is not None and part.batch == 1
        else:
            with pytest.raises(UserError, match=r"takes 4 windows per call and no other number"):
                encoder_part(run)


def test_several_encoders_are_refused_by_name(encoder, tmp_path: Path) -> None:
    other = foreign_encoders.write_onnx(tmp_path / "b.onnx", ONNX.n_samples, ONNX.width)
    (tmp_path / "b.json").write_text(json.dumps({**ONNX.to_json(), "name": "other"}))
    run = make_run(tmp_path / "run", f"{encoder[0]},{other}", f"{encoder[1]},{tmp_path / 'b.json'}")
    with pytest.raises(UserError, match=r"reads 2 \(small, other\): train the head on one of them"):
        encoder_part(run)


def test_a_run_as_encoder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    from run_to_export import SPEC

    from birdnet_fs import schema

    experiment = schema.Experiment(frontend=SPEC, model=schema.Model("cnn/tiny"), data=schema.Data(root="gone"))
    network = make_network(tmp_path / "network", experiment, ("a", "b"))
    run = make_run(tmp_path / "run", network.path)
    with pytest.raises(UserError, match=r"is a run \(.*network\); export that run as a file .* --embeddings"):
        encoder_part(run)


def test_an_encoder_that_moved_or_changed_is_refused(encoder, tmp_path: Path) -> None:
    file, card = encoder
    run = make_run(tmp_path / "run", file, card)
    foreign_encoders.write_tflite(file, TFLITE.n_samples, TFLITE.width, 10)
    with pytest.raises(UserError, match="it has changed since"):
        encoder_part(run)
    shutil.move(file, tmp_path / "elsewhere.tflite")
    with pytest.raises(UserError, match="is not there any more"):
        encoder_part(run)


def test_part_says_what_the_head_reads(tmp_path: Path) -> None:
    need("onnxruntime")
    file = perch_stand_in.write_onnx(tmp_path / "perch.onnx")
    labels = write_labels(tmp_path, perch_stand_in.N_SCORES)
    for name, settings in {"attentive": {}, "linear": {"own_scores": "blend", "labels": str(labels)}}.items():
        part = encoder_part(make_run(tmp_path / name, file, "perch_v2", head=name, **settings))
        assert part is not None and part.tokens == (name == "attentive")
        assert part.own.columns == (() if part.tokens else OWN_COLUMNS)
