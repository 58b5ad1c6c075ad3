"""The audio file of a row: by path, last folders, name or stem, and the problem when it cannot be used."""

import unicodedata
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_layouts import text, tone

from birdnet_fs.data.label_formats.locate import Locator
from birdnet_fs.data.label_formats.source import LabelRow, Source
from birdnet_fs.schema import Data


def source_of(root, *names, **settings):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")  # the audio is not decoded
    return Source(Data(str(root), **settings), root)


def located(source, *rows):
    """Relative path or problem of each row; a row is a path, or a LabelRow."""
    locator = Locator(source)
    rows = [LabelRow(f"t.csv row {i}", row) if isinstance(row, str) else row for i, row in enumerate(rows, 2)]
    places = [locator.locate(row) for row in rows]
    locator.finish()
    return [
        place.problem or place.path.relative_to(source.root).as_posix() if place.path else place.problem
        for place in places
    ]


def beside(source, folder, path="", **more):
    return LabelRow("t.csv row 2", path, beside=str(source.root / folder), **more)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("x/a.wav", "x/a.wav"),
        ("x\\a.wav", "x/a.wav"),
        ("./x/a.wav", "x/a.wav"),
        ("../anywhere/x/a.wav", "no audio file ../anywhere/x/a.wav was found (x/a.wav is in another folder)."),
        ("b.wav", "x/b.wav"),
        ("b", "x/b.wav"),
        ("c", "c.flac"),
        ("deep/s1/e.wav", "audio/deep/s1/e.wav"),
        ("s1/e.wav", "audio/deep/s1/e.wav"),
        ("s1/e", "audio/deep/s1/e.wav"),
        ("s2/e.wav", "no audio file s2/e.wav was found (audio/deep/s1/e.wav is in another folder)."),
        ("elsewhere/y/a.wav", "no audio file elsewhere/y/a.wav was found (x/a.wav is in another folder)."),
        ("a.wav", "2 audio files are called a.wav (x/a.wav, y/a.wav); name the folder too."),
        ("b.mp3", "no audio file b.mp3 was found (x/b.wav has another extension)."),
        ("none.wav", "no audio file none.wav was found."),
        ("", "the row names no audio file."),
        ("x", "this is a folder, not an audio file."),
        ("empty.wav", "the file is empty (0 bytes)."),
    ],
)
def test_path_of_a_row(tmp_path, path, found):
    source = source_of(tmp_path, "x/a.wav", "y/a.wav", "x/b.wav", "c.flac", "audio/deep/s1/e.wav")
    (tmp_path / "empty.wav").write_bytes(b"")
    assert located(source, path) == [found]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("D:\\proj\\s1\\x.wav", "s1/x.wav"),
        ("D:/proj/s1/x.wav", "s1/x.wav"),
        ("/media/old/s2/x.wav", "s2/x.wav"),
        ("\\\\server\\share\\s2\\x.wav", "s2/x.wav"),
        ("C:\\rec\\top.wav", "top.wav"),
        ("/media/old/audio/s3/y.wav", "audio/s3/y.wav"),
        ("/media/old/s3/y.wav", "audio/s3/y.wav"),
        ("/media/old/s1/y.wav", "no audio file /media/old/s1/y.wav was found (audio/s3/y.wav is in another folder)."),
        ("/media/s9/x.wav", "no audio file /media/s9/x.wav was found (s1/x.wav is in another folder)."),
    ],
)
def test_absolute_path_of_another_computer_is_found_by_its_last_folders(tmp_path, path, found):
    source = source_of(tmp_path, "s1/x.wav", "s2/x.wav", "top.wav", "audio/s3/y.wav")
    assert located(source, path) == [found]


def test_longest_common_end_wins_and_equal_ones_are_refused(tmp_path):
    source = source_of(tmp_path, "p/s1/x.wav", "q/s1/x.wav")
    assert located(source, "/old/q/s1/x.wav", "p/s1/x.wav") == ["q/s1/x.wav", "p/s1/x.wav"]
    [problem] = located(source, "/old/r/s1/x.wav")
    assert problem == "2 audio files are called /old/r/s1/x.wav (p/s1/x.wav, q/s1/x.wav); name the folder too."


def test_two_paths_do_not_lead_to_one_file_by_their_last_folders(tmp_path):
    """The recordings of 2021 were not copied: their rows must not take the labels to those of 2020."""
    source = source_of(tmp_path, "2020/s1/x.wav")
    first, second = located(source, "/old/2020/s1/x.wav", "/old/2021/s1/x.wav")
    assert first == "2020/s1/x.wav"
    assert second.startswith("no audio file /old/2021/s1/x.wav was found; the last folders are those of /old/2020/")
    assert located(source, "/old/2020/s1/x.wav", "D:\\2020\\s1\\x.wav") == ["2020/s1/x.wav"] * 2


def test_name_or_stem_is_looked_up_in_the_folder_of_its_table_first(tmp_path):
    source = source_of(tmp_path, "a.wav", "s1/a.wav", "s2/a.wav", "s2/b.wav", "s2/b.flac", "s2/c.wav")
    rows = [beside(source, "s1", "a.wav"), beside(source, "s2", stem="a"), beside(source, "s2", stem="b.wav")]
    assert located(source, *rows) == ["s1/a.wav", "s2/a.wav", "s2/b.wav"]
    refused = located(source, beside(source, "s2", stem="b"), beside(source, "s1", stem="c"))
    assert refused[0] == "2 audio files are called b (s2/b.flac, s2/b.wav); name the folder too."
    assert refused[1] == "no audio file c was found (s2/c.wav is in another folder)."


def test_table_in_another_tree_means_the_folder_of_its_name(tmp_path):
    source = source_of(tmp_path, "audio/s1/a.wav", "audio/s2/a.wav", "audio/s2/b.wav")
    assert located(source, beside(source, "raven/s1", stem="a"), beside(source, "raven", stem="b")) == [
        "audio/s1/a.wav",
        "audio/s2/b.wav",
    ]
    assert located(source, beside(source, "raven/s1", stem="b")) == [
        "no audio file b was found (audio/s2/b.wav is in another folder)."
    ]


def test_path_is_relative_to_the_folder_of_the_table(tmp_path):
    source = source_of(tmp_path, "set/audio/a.wav", "audio/a.wav")
    assert located(source, beside(source, "set", "audio/a.wav")) == ["set/audio/a.wav"]
    assert located(source, "audio/a.wav") == ["audio/a.wav"]


def test_data_audio_is_looked_up_before_the_folder_of_the_table(tmp_path):
    source = source_of(tmp_path, "a.wav", "audio/a.wav", audio="audio")
    assert located(source, beside(source, "", "a.wav")) == ["audio/a.wav"]


def test_name_in_another_normalization_or_case_is_used_and_said(tmp_path):
    nfd, nfc = (unicodedata.normalize(form, "Grünspecht.wav") for form in ("NFD", "NFC"))
    source = source_of(tmp_path, f"audio/{nfd}", "s1/x.wav", "audio/B.wav")
    found = located(source, nfc, "S1/X.WAV", "b.wav")
    assert found == [f"audio/{nfd}", "s1/x.wav", "audio/B.wav"]
    notes = "\n".join(source.notes)
    assert "Rows that name a file in another Unicode normalization (NFC, NFD): 1 (the first: t.csv row 2" in notes
    assert (
        "Rows that name a file in other upper and lower case: 2 (the first: t.csv row 3: S1/X.WAV is s1/x.wav" in notes
    )


def test_file_of_exactly_that_name_comes_before_one_in_another_case(tmp_path):
    source = source_of(tmp_path, "s1/a.wav", "s1/A.wav", "s1/b.WAV", "s1/B.wav")
    assert located(source, "s1/A.wav") == ["s1/A.wav"]
    assert located(source, "s1/b.wav") == [
        "2 audio files are called s1/b.wav (s1/B.wav, s1/b.WAV); name the folder too."
    ]


def test_rows_found_by_name_or_last_folders_are_counted(tmp_path):
    source = source_of(tmp_path, "s1/a.wav", "s2/b.wav", "top.wav")
    located(source, "a.wav", "b.wav", "a.wav", "top.wav", "/old/s1/a.wav")
    assert source.notes == [
        "Rows whose file was found elsewhere by its name alone: 3 (the first: t.csv row 2: a.wav is s1/a.wav).",
        "Rows with paths of another computer, whose files were found by their last folders: 1 (the first: t.csv row 6: "
        "/old/s1/a.wav is s1/a.wav).",
    ]


def test_file_without_folder_is_that_of_its_label_in_birdclef(tmp_path):
    source = source_of(
        tmp_path, "train_audio/robin/1.ogg", "train_audio/wren/1.ogg", "train_audio/robin/2.ogg", "3.ogg"
    )
    folders = frozenset({"robin", "wren", "owl"})

    def row(label, name):
        return LabelRow("t.csv row 2", name, folder=label, other_folders=folders)

    assert located(source, row("robin", "1.ogg"), row("wren", "1.ogg"), row("owl", "3.ogg")) == [
        "train_audio/robin/1.ogg",
        "train_audio/wren/1.ogg",
        "3.ogg",
    ]
    assert located(source, row("wren", "2.ogg"))[0].startswith("no audio file 2.ogg was found")


def test_name_written_in_windows_1252_is_found(tmp_path):
    import os

    name = os.fsdecode(b"caf\xe9.wav")
    source = source_of(tmp_path, name)
    place = Locator(source).locate(LabelRow("t.csv row 2", "café.wav"))
    assert place.path is not None and place.path.name == name


FOLDERS = st.lists(st.sampled_from(["p", "q", "s1", "S1"]), max_size=3)
FILES = st.tuples(FOLDERS, st.sampled_from(["x.wav", "y.wav", "X.wav"])).map(lambda f: "/".join([*f[0], f[1]]))


@settings(max_examples=80)
@given(st.sets(FILES, min_size=1, max_size=6), FILES, st.sampled_from(["", "/old/", "C:\\"]))
def test_row_with_folders_never_gets_a_file_of_another_folder(tmp_path_factory, files, wanted, start):
    """Reference: brute force over all files, with names compared without case."""
    source = source_of(tmp_path_factory.mktemp("d"), *sorted(files))
    [found] = located(source, start + wanted)
    parts = PurePosixPath(wanted.lower()).parts
    lower = {name: PurePosixPath(name.lower()).parts for name in files}
    if not start and wanted in files:
        assert found == wanted
    elif found in files:
        own = lower[found]
        common = sum(own[-n:] == parts[-n:] for n in range(1, min(len(own), len(parts)) + 1))
        full = common == len(parts)
        assert own[-1] == parts[-1]
        assert full or len(parts) == 1 or (start and (common >= 2 or len(own) == 1))
        others = [own for name, own in lower.items() if name != found and own[-len(parts) :] == parts]
        assert full or not others
    elif not start:
        ending = [name for name, own in lower.items() if own[-len(parts) :] == parts]
        assert len(ending) != 1


def test_table_beside_audio_is_read_with_its_own_recordings(tmp_path):
    for folder in ("s1", "s2"):
        tone(tmp_path / folder / "0001.wav")
    text(tmp_path / "s1" / "labels.csv", "file,label\n0001.wav,robin\n0002.wav,wren\n")
    tone(tmp_path / "s2" / "0002.wav")
    from birdnet_fs.data.manifest import read_manifest

    found = read_manifest(Data(str(tmp_path), table="s1/labels.csv"))
    assert [clip.path for clip in found.clips] == [tmp_path / "s1" / "0001.wav"]
    [row] = [row for row in found.ledger.rows if row.status == "quarantined"]
    assert row.reason == "no audio file 0002.wav was found (s2/0002.wav is in another folder)."
