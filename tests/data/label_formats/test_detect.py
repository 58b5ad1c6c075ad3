"""`data.binary_label`: every label becomes the one class of a detector, noise none."""

import csv

import numpy as np
import pytest
import soundfile

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


@pytest.fixture
def folder(tmp_path):
    for name in ("Parus major/a.wav", "Corvus corax/b.wav", "noise/c.wav", "nocall/d.wav"):
        file = tmp_path / name
        file.parent.mkdir()
        soundfile.write(file, np.zeros(8000), 8000)
    return tmp_path


def test_any_label_is_the_class_and_noise_is_none(folder):
    plain = read_manifest(Data(root=str(folder), multi_label=True))
    assert {clip.path.name: clip.labels for clip in plain.clips} == {
        "a.wav": ("Parus major",),
        "b.wav": ("Corvus corax",),
        "c.wav": (),
        "d.wav": (),
    }
    found = read_manifest(Data(root=str(folder), multi_label=True, binary_label="call"))
    assert found.classes == ("call",)
    assert {clip.path.name: clip.labels for clip in found.clips} == {
        "a.wav": ("call",),
        "b.wav": ("call",),
        "c.wav": (),
        "d.wav": (),
    }
    assert all(row.status == "ok" for row in found.ledger.rows)


def test_several_labels_and_secondary_ones_are_one(folder):
    with (folder / "table.csv").open("w", newline="") as file:
        rows = [["filename", "label", "secondary_labels"], ["Parus major/a.wav", "x;y", "z"], ["noise/c.wav", "", "z"]]
        csv.writer(file).writerows(rows)
    found = read_manifest(Data(root=str(folder), table="table.csv", multi_label=True, binary_label="call"))
    assert next((clip.labels, clip.secondary) for clip in found.clips) == (("call",), ())


def test_one_class_needs_sigmoids():
    with pytest.raises(UserError, match=r"data\.binary_label=call needs data\.multi_label=true"):
        Data(binary_label="call")


def test_a_detector_without_noise_is_told(folder, capsys):
    data = Data(root=str(folder), multi_label=True, binary_label="call")
    read_manifest(data)
    assert "nothing tells calls from noise" not in capsys.readouterr().err
    for name in ("noise/c.wav", "nocall/d.wav"):
        (folder / name).unlink()
    read_manifest(data)
    assert "every clip has a label and none is without" in capsys.readouterr().err
