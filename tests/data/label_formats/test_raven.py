"""The layout raven: names of tables and audio, selections by view, and times in a sequence of files."""

import pytest
from label_layouts import as_raven, text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.label_formats.raven import ENDING
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


@pytest.mark.parametrize(
    "name",
    ["a.Table.1.selections.txt", "a.selections.txt", "a.BirdNET.selection.table.txt", "a.txt", "a.TSV"],
)
def test_name_of_the_audio_is_that_of_the_table(name):
    assert ENDING.sub("", name) == "a"


def test_selection_is_read_once_although_it_has_a_row_per_view(tmp_path):
    as_raven(tmp_path)
    found = read_manifest(Data(str(tmp_path), multi_label=True))
    assert [clip.onset_s for clip in found.clips if clip.path.stem == "one"] == [0.5, 5.0]


def test_times_of_a_sequence_of_files_are_those_in_the_file(tmp_path):
    as_raven(tmp_path)
    [clip] = [clip for clip in read_manifest(Data(str(tmp_path), multi_label=True)).clips if clip.path.stem == "four"]
    assert (clip.onset_s, clip.offset_s) == (2.25, 3.75)  # the table counts 66 to 67.5 s over all files


def test_column_of_labels_can_be_set(tmp_path):
    tone(tmp_path / "a.wav", 2.0)
    text(tmp_path / "a.txt", "Selection\tBegin Time (s)\tEnd Time (s)\tCommon Name\tCall\n1\t0\t1\tTit\talarm\n")
    assert read_manifest(Data(str(tmp_path), multi_label=True)).classes == ("Tit",)
    assert read_manifest(Data(str(tmp_path), multi_label=True, label_column="Call")).classes == ("alarm",)
    with pytest.raises(UserError, match=r"a\.txt has no column 'Cal'. Did you mean 'Call'"):
        read_manifest(Data(str(tmp_path), multi_label=True, label_column="Cal"))
