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


def test_secondary_labels_in_every_form_and_codes_without_brackets(tmp_path):
    cells = [
        "['def', 'ghi']",
        "['def' 'ghi']",
        "[def, ghi]",
        "{'def', 'ghi'}",
        "def;ghi",
        "def,ghi",
        "def|ghi",
        "def ghi",
    ]
    cells += ["['']", "[]", "nan", ""]
    for i in range(len(cells)):
        tone(tmp_path / f"train_audio/{i}.ogg")
    rows = "".join(f'abc,"{cell}",{i}.ogg\n' for i, cell in enumerate(cells))
    text(tmp_path / "train.csv", f"primary_label,secondary_labels,filename\n{rows}")
    clips = read_manifest(Data(str(tmp_path), multi_label=True)).clips
    assert [clip.labels for clip in clips] == [("abc", "def", "ghi")] * 8 + [("abc",)] * 4
    names = rows.replace("abc,", "Parus major,")  # with names instead of codes a space is a part of the name
    text(tmp_path / "train.csv", f"primary_label,secondary_labels,filename\n{names}")
    assert [clip.secondary for clip in read_manifest(Data(str(tmp_path))).clips][4:8] == [
        ("def", "ghi"),
        ("def,ghi",),
        ("def|ghi",),
        ("def ghi",),
    ]


def test_another_table_is_refused_when_the_layout_is_set(tmp_path):
    tone(tmp_path / "a.wav")
    text(tmp_path / "train.csv", "filename,label\na.wav,A\n")
    with pytest.raises(
        UserError, match=r"columns primary_label and filename; set data\.table.* Received: filename, label"
    ):
        read_manifest(Data(str(tmp_path), layout="birdclef"))
