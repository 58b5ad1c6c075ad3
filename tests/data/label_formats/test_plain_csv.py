"""The layout csv: columns of groups, folds, splits, times and labels, and messages for missing columns."""

import pytest
from label_layouts import as_csv, text, tone

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_groups_folds_and_splits_are_read(tmp_path):
    as_csv(tmp_path)
    found = read_manifest(Data(str(tmp_path), group_column="site"))
    assert [(c.group, c.fold, c.split) for c in found.clips] == [
        ("s1", 0, "train"),
        ("s1", 1, "test"),
        ("s2", None, ""),
    ]


def test_unknown_columns_are_refused_with_the_nearest_one(tmp_path):
    as_csv(tmp_path)
    with pytest.raises(UserError, match=r"no column 'sight'. Did you mean 'site'"):
        read_manifest(Data(str(tmp_path), group_column="sight"))
    with pytest.raises(UserError, match=r"no column 'specie'. Did you mean 'species'"):
        read_manifest(Data(str(tmp_path), label_column="specie"))


def test_missing_path_and_label_columns_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.layout=csv needs a CSV table; set data\.table"):
        read_manifest(Data(str(tmp_path), layout="csv"))
    text(tmp_path / "t.csv", "name,label\na.wav,A\n")
    with pytest.raises(UserError, match=r"t\.csv in .* has no column of audio files .*Columns: name, label"):
        read_manifest(Data(str(tmp_path), layout="csv"))
    text(tmp_path / "t.csv", "path,tit\na.wav,A\n")
    with pytest.raises(UserError, match=r"t\.csv in .* has no column of labels .*data\.label_column.*path, tit"):
        read_manifest(Data(str(tmp_path), layout="csv"))


def test_column_of_all_labels_replaces_the_label_column_with_several_labels(tmp_path):
    tone(tmp_path / "a.wav")
    text(tmp_path / "t.csv", "path,label,labels,start,end\na.wav,A,A;B,0.25,0.5\n")
    single = read_manifest(Data(str(tmp_path))).clips[0]
    several = read_manifest(Data(str(tmp_path), multi_label=True)).clips[0]
    assert (single.labels, several.labels) == (("A",), ("A", "B"))
    assert (single.onset_s, single.offset_s) == (0.25, 0.5)
