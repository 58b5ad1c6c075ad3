"""The layout folders: names of folders as labels."""

from label_layouts import as_folders, tone

from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_recordings_are_groups(tmp_path):
    as_folders(tmp_path)
    assert read_manifest(Data(str(tmp_path))).clips[0].group == "-A/4.wav"


def test_folder_of_two_labels_gives_both_with_several_labels(tmp_path):
    as_folders(tmp_path)
    found = {clip.path.stem: clip for clip in read_manifest(Data(str(tmp_path), multi_label=True)).clips}
    assert (found["3"].labels, found["3"].secondary) == (("A", "B"), ())
    assert found["4"].labels == found["5"].labels == ()


def test_a_comma_is_a_part_of_the_name_with_one_label_and_both_readings_are_pointed_out(tmp_path):
    for name in ("Owl, Barn", "Owl, Tawny"):
        tone(tmp_path / name / "1.wav")
    found = read_manifest(Data(str(tmp_path)))
    assert found.classes == ("Owl, Barn", "Owl, Tawny") and [clip.secondary for clip in found.clips] == [(), ()]
    assert found.notes[0].startswith("2 folder names with a comma are one label each, as 'Owl, Barn'")
    several = read_manifest(Data(str(tmp_path), multi_label=True))
    assert several.classes == ("Barn", "Owl", "Tawny")
    assert several.notes[0].startswith("2 folder names with a comma stand for several labels, as 'Owl, Barn'")


def test_names_that_begin_with_a_minus_are_absent_classes_except_numbers(tmp_path):
    for name in ("-1", "-A", "noise", "owl"):
        tone(tmp_path / name / "1.wav")
    found = read_manifest(Data(str(tmp_path), noise_label="class"))
    assert [clip.labels for clip in found.clips] == [("-1",), (), ("noise",), ("owl",)]
    assert "1 folder names begin with '-', as '-A'" in found.notes[0]


def test_file_outside_of_the_folders_has_no_label_and_is_quarantined(tmp_path):
    as_folders(tmp_path)
    tone(tmp_path / "stray.wav")
    [row] = [row for row in read_manifest(Data(str(tmp_path))).ledger.rows if row.status != "ok"]
    assert row.path.endswith("stray.wav") and row.reason == "its label is empty."
