"""JSON of strangers: what is read, and what is refused with which reason."""

import json
from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.json_file import MAX_DEPTH, parse_json, read_json


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_values_are_those_of_the_json_module() -> None:
    text = '{"a": [1, -2.5e-3, true, null, "caf\\u00e9"], "b": {"c": 18446744073709551615}}'
    assert parse_json(text.encode()) == json.loads(text)
    assert parse_json(nested(MAX_DEPTH)) is not None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "Expecting"),
        (b"\xff", "can't decode byte"),
        (b"[NaN]", "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"[1e400]", "the number 1e400 is too large"),
        (b"[" + b"9" * 21 + b"]", "a number has 21 digits"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' is given twice"),
        (nested(MAX_DEPTH + 1), "nested more than 32 deep"),
        (nested(200_000), "nested more than 32 deep"),
    ],
)
def test_other_values_are_refused_with_the_reason(data: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(data)
    (tmp_path / "x\x1b.json").write_bytes(data)
    with pytest.raises(UserError, match=r"x\\x1b.json is not readable JSON \(.*; copy it again\.") as caught:
        read_json(tmp_path / "x\x1b.json", "copy it again")
    assert words in str(caught.value) and str(caught.value).isprintable()


def test_a_large_or_missing_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(b"[" + b"1," * 50 + b"1]")
    with pytest.raises(UserError, match="it has more than 100 bytes"):
        read_json(tmp_path / "large.json", "copy it again", max_bytes=100)
    assert len(read_json(tmp_path / "large.json", "copy it again", max_bytes=103)) == 51
    with pytest.raises(UserError, match=r"cannot be read \(No such file or directory\)"):
        read_json(tmp_path / "none.json", "copy it again")
