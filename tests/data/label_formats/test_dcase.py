"""DCASE's tables with one class, which is named as their folder."""

import numpy as np
import soundfile as sf

from birdnet_fs.data.manifest import read_manifest
from birdnet_fs.schema import Data


def test_the_class_of_the_column_call_is_the_folder(tmp_path):
    for folder in ("HT", "JD"):
        (tmp_path / folder).mkdir()
        sf.write(tmp_path / folder / "a.wav", 0.1 * np.sin(np.arange(16_000)), 8000)
        rows = "a.wav,0.1,0.2,POS\na.wav,0.5,0.6,NEG\na.wav,1.0,1.1,UNK\n"
        (tmp_path / folder / "a.csv").write_text(f"Audiofilename,Starttime,Endtime,CALL\n{rows}")
    found = read_manifest(Data(str(tmp_path)))
    assert (found.layout, found.classes) == ("dcase", ("HT", "JD"))
    assert [(clip.path.parent.name, clip.labels) for clip in found.clips] == [
        ("HT", ("HT",)),
        ("HT", ()),
        ("HT", ()),
        ("JD", ("JD",)),
        ("JD", ()),
        ("JD", ()),
    ]
