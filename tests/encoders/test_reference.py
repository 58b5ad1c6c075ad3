"""encoder.json: written and read back, refused when it is damaged, and encoders found where they are."""

import dataclasses
import json

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.encoders.reference import EncoderReference, RunEncoders, place_of, read_encoders, write_encoders

ONE = EncoderReference("small", "/encoders/small.onnx", {"name": "small"}, "abc", "CC0", 16_000, 0.2, 24)
FOUND = RunEncoders((ONE,), (24,), ("Parus major",), (7,), {"model.head": "auto"}, {"head": {"linear": 0.9}})


def test_what_is_written_is_read_back(tmp_path):
    write_encoders(tmp_path, FOUND)
    assert read_encoders(tmp_path) == FOUND


@pytest.mark.parametrize("shape", [(1536,), (14_795 + 1536,), (64, 1536)])
def test_wide_embeddings_are_read_back(tmp_path, shape):
    write_encoders(tmp_path, dataclasses.replace(FOUND, input_shape=shape))
    assert read_encoders(tmp_path).input_shape == shape


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", 2, "of a newer birdnet_fs"),
        ("format", "1", "does not describe encoders"),
        ("encoders", [], "must list 1 to 16"),
        ("encoders", [{"name": "small"}], "'path' is missing"),
        ("encoders", [{**vars(ONE), "width": -1}], "'width' is missing or wrong"),
        ("encoders", [{**vars(ONE), "segment_s": True}], "'segment_s' is missing or wrong"),
        ("input_shape", [24.0], "'input_shape' must be"),
        ("input_shape", [2**20, 2], "'input_shape' must be"),
        ("own_columns", [1, 2], "lists of one length"),
        ("asked", {"data.root": "/"}, "'asked' and 'choices'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, key, value, words):
    write_encoders(tmp_path, FOUND)
    file = tmp_path / "encoder.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError) as error:
        read_encoders(tmp_path)
    assert words in str(error.value) and "encoder.json" in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"encoder\.json is missing"):
        read_encoders(tmp_path)


def test_an_encoder_is_where_it_was_or_copied_into_the_run(tmp_path):
    place = tmp_path / "encoders" / "small.onnx"
    one = EncoderReference("small", str(place), {}, "abc", "", 16_000, 0.2, 24)
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"is not there any more; put the file back, or copy it to .*run/encoder/small"):
        place_of(run, one)
    place.parent.mkdir()
    place.write_bytes(b"x")
    assert place_of(run, one) == place
    (run / "encoder").mkdir(parents=True)
    copy = run / "encoder" / "small.onnx"
    copy.symlink_to(place)  # a link in a run may lead anywhere
    assert place_of(run, one) == place
    copy.unlink()
    copy.write_bytes(b"x")
    assert place_of(run, one) == copy
