"""The layout animal_spot: parts of the file names."""

from label_layouts import as_animal_spot, tone

from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_clips_of_one_tape_are_a_group(tmp_path):
    as_animal_spot(tmp_path)
    found = read_manifest(Data(str(tmp_path)))
    assert [clip.group for clip in found.clips] == ["2019_A38", "2020_B1", "2019_A38"]
    assert found.clips[0].row["info"] == "N4_x" and found.clips[0].row["start"] == "100"


def test_noise_is_a_class_where_the_settings_say_so(tmp_path):
    as_animal_spot(tmp_path)
    found = read_manifest(Data(str(tmp_path), noise_label="class"))
    assert found.classes == ("call", "noise") and all(len(clip.labels) == 1 for clip in found.clips)


def test_file_with_another_name_is_quarantined_when_the_layout_is_set(tmp_path):
    as_animal_spot(tmp_path)
    tone(tmp_path / "a.wav")
    found = read_manifest(Data(str(tmp_path), layout="animal_spot"))
    assert found.ledger.counts() == {"ok": 3, "partial": 0, "quarantined": 1}
    assert read_manifest(Data(str(tmp_path), layout="animal_spot", where="label=call")).classes == ("call",)
