"""The audio file of a row: by path, name or stem, and the problem when it cannot be used."""

import pytest
from label_layouts import text, tone

from birdnet_fs.data.label_formats.locate import locate_audio
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.schema import Data


@pytest.fixture
def source(tmp_path):
    for name in ("x/a.wav", "y/a.wav", "x/b.wav", "c.flac"):
        tone(tmp_path / name)
    (tmp_path / "empty.wav").write_bytes(b"")
    return Source(Data(str(tmp_path)), tmp_path)


@pytest.mark.parametrize(
    ("path", "stem", "beside", "found"),
    [
        ("x/a.wav", "", "", "x/a.wav"),
        ("x\\a.wav", "", "", "x/a.wav"),
        ("b.wav", "", "", "x/b.wav"),
        ("elsewhere/y/a.wav", "", "", ""),
        ("c", "", "", "c.flac"),
        ("", "b", "", "x/b.wav"),
        ("", "a", "y", "y/a.wav"),
        ("b.wav", "", "x", "x/b.wav"),
    ],
)
def test_audio_is_found_by_path_name_or_stem(source, path, stem, beside, found):
    row = LabelRow("t.csv row 2", path, stem=stem, beside=str(source.root / beside) if beside else "")
    audio, problem = locate_audio(source, row)
    if found:
        assert (audio, problem) == (source.root / found, "")
    else:
        assert audio is None and problem == "2 audio files are called elsewhere/y/a.wav; name the folder too."


@pytest.mark.parametrize(
    ("path", "stem", "problem"),
    [
        ("", "", "the row names no audio file."),
        ("none.wav", "", "no audio file none.wav was found."),
        ("", "a", "2 audio files are called a; name the folder too."),
        ("x", "", "this is a folder, not an audio file."),
        ("empty.wav", "", "the file is empty (0 bytes)."),
    ],
)
def test_audio_that_cannot_be_used_has_a_problem(source, path, stem, problem):
    assert locate_audio(source, LabelRow("t.csv row 2", path, stem=stem))[1] == problem


def test_path_is_relative_to_the_folder_of_the_table(tmp_path):
    tone(tmp_path / "set" / "audio" / "a.wav")
    text(tmp_path / "set" / "t.csv", "path,label\n")
    source = Source(Data(str(tmp_path), table="set/t.csv"), tmp_path)
    assert locate_audio(source, LabelRow("t.csv row 2", "audio/a.wav")) == (tmp_path / "set" / "audio" / "a.wav", "")
