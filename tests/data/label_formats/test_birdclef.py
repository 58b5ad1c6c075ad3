"""The layout birdclef: columns of train.csv."""

import pytest
from label_layouts import as_birdclef, text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_secondary_labels_stay_secondary_with_one_label(tmp_path):
    as_birdclef(tmp_path)
    clip = read_manifest(Data(str(tmp_path))).clips[0]
    assert (clip.labels, clip.secondary, clip.row["author"]) == (("abc",), ("def", "ghi"), "M")


def test_another_table_is_refused_when_the_layout_is_set(tmp_path):
    tone(tmp_path / "a.wav")
    text(tmp_path / "train.csv", "filename,label\na.wav,A\n")
    with pytest.raises(
        UserError, match=r"columns primary_label and filename; set data\.table.* Received: filename, label"
    ):
        read_manifest(Data(str(tmp_path), layout="birdclef"))
