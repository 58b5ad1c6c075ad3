"""Joins of clips with reference motifs, against one join per motif."""

import json

import numpy as np
import pytest
import soundfile
from motif_folders import song
from soundscapes import RATE

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.classifier.reference_motifs import (
    WINDOW,
    join_statistics,
    read_motifs,
    read_reference_motifs,
    write_motifs,
)
from birdnet_fs.motifs.extraction import extract_motifs
from birdnet_fs.motifs.features import FeatureSettings
from birdnet_fs.motifs.matrix_profile import ab_join
from birdnet_fs.motifs.mining import MiningSettings


def test_statistics_are_those_of_one_join_per_motif():
    rng = np.random.default_rng(0)
    clips = [rng.random((n, 12)).astype(np.float32) for n in (50, 20, 19, 33)]
    motifs = [rng.random((n, 12)).astype(np.float32) for n in (30, 20, 41)]
    found = join_statistics(clips, motifs)
    assert found.shape == (4, 9) and not found[2].any()
    for row, clip in zip(found[[0, 1, 3]], [clips[0], clips[1], clips[3]], strict=True):
        for place, motif in enumerate(motifs):
            profile = ab_join(clip, motif, WINDOW, precision="float64").distances
            wanted = [profile.min(), np.median(profile), profile.max()]
            np.testing.assert_allclose(row[3 * place : 3 * place + 3], wanted, rtol=1e-5)


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mined")
    rng, places = np.random.default_rng(1), {}
    for number, hz in enumerate((2500, 4500)):
        path = folder / f"recordings/akiapo/XC{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, song(rng, hz, 8.0), RATE)
        places[path] = f"akiapo/XC{number}"
    settings = MiningSettings(FeatureSettings("logmel", 10), window=30)
    extract_motifs(places, folder / "recordings", folder / "mined", settings)
    return folder


def test_mined_motifs_are_stored_and_read(mined, tmp_path):
    found = read_reference_motifs(mined / "mined")
    assert len(found.frames) == 2 and all(rows.shape == (30, 40) for rows in found.frames)
    metadata = json.loads((mined / "mined/akiapo/XC0/metadata.json").read_text())
    assert found.names[0] == metadata["source_name"]
    stored = write_motifs(tmp_path / "motifs", found)
    again = read_motifs(tmp_path / "motifs", stored)
    assert all(np.array_equal(a, b) for a, b in zip(again.frames, found.frames, strict=True))
    (tmp_path / "motifs/1.npy").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="holds no reference motifs; copy the classifier again"):
        read_motifs(tmp_path / "motifs", stored)
