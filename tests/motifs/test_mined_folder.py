"""Folders of mined recordings that are damaged, or none, are refused by name."""

import json
from pathlib import Path

import mined_recordings
import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.mined_folder import mined_recordings as read_all
from birdnet_fs.motifs.mined_folder import read_recording, recordings_root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mined_recordings.mined(tmp_path_factory.mktemp("mined"))


def test_recordings_are_found_where_they_were_or_where_they_are(folder: Path, tmp_path: Path) -> None:
    assert recordings_root(folder, None) == folder.parent / "in"
    assert recordings_root(folder, tmp_path) == tmp_path
    with pytest.raises(UserError, match=r"no longer in .*gone; name their folder with --recordings FOLDER"):
        recordings_root(folder, tmp_path / "gone")
    with pytest.raises(UserError, match=r"written by `birdnet-fs motifs extract` was expected; .* no settings\.json"):
        list(read_all(tmp_path))


@pytest.mark.parametrize(
    ("key", "value"),
    [("motif_0", -1), ("motif_0", 1.5), ("cens_sample_rate", 0), ("matrix_profile_window", "30"), ("source_name", 3)],
)
def test_damaged_metadata_is_refused(folder: Path, tmp_path: Path, key: str, value: object) -> None:
    metadata = json.loads((folder / "owl" / "0" / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    assert read_recording(tmp_path).source_name == "owl/0.wav"
    (tmp_path / "metadata.json").write_text(json.dumps({**metadata, key: value}))
    with pytest.raises(UserError, match=r"metadata\.json has .*; mine the recordings again"):
        read_recording(tmp_path)


def test_damaged_profiles_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "metadata.json").write_text((folder / "owl" / "0" / "metadata.json").read_text())
    recording = read_recording(tmp_path)
    with pytest.raises(UserError, match=r"mp\.npy cannot be read"):
        recording.profile()
    np.save(tmp_path / "mp.npy", np.ones(5))
    for wrong in (np.ones(5), np.zeros(4, int), np.full(5, 5), np.full(5, -2)):
        np.save(tmp_path / "pi.npy", wrong)
        with pytest.raises(UserError, match="holds no matrix profile"):
            recording.profile()
    np.save(tmp_path / "pi.npy", np.zeros(5, int))
    assert len(recording.profile()) == 5
