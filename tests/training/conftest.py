"""Recordings that several tests of trainings read."""

from pathlib import Path

import pytest

from birdnet_fs.data.synthetic.aviary import make_aviary


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An aviary of 3 species with 10 clips each, which no test changes."""
    folder = tmp_path_factory.mktemp("training") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=10, n_soundscapes=0)
    return folder
