"""Preparation of a training: refused clips, background noise without held-out recordings, the ledger."""

import shutil
from pathlib import Path

import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.settings import override
from birdnet_fs.data.partition import partition
from birdnet_fs.data.synthetic.aviary import make_aviary
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.schema import Data, Experiment, FrontEnd, Model
from birdnet_fs.training.prepare import check_clips, read_background_noise, training_ledger


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("prepare") / "aviary"
    make_aviary(folder, n_species=3, clips_per_species=5, n_soundscapes=0)
    return Experiment(
        name="tiny",
        data=Data(root=str(folder), table="metadata.csv", audio="audio", where="set=aviary", split="70/15/15"),
        frontend=FrontEnd(segment_s=1.0, sample_rate_hz=16_000, fmax_hz=8_000.0),
        model=Model("cnn/tiny"),
    )


def test_copies_of_held_out_recordings_are_no_background_noise(base: Experiment) -> None:
    chosen = override(base, ["augmentation.noise.p=1"])
    parts = partition(chosen)
    folder = Path(base.data.root) / "noises"
    folder.mkdir()
    shutil.copy(parts.held_out[0].path, folder / "held_out.flac")
    shutil.copy(parts.val[0].path, folder / "val.flac")
    shutil.copy(parts.train[0].path, folder / "train.flac")
    noises = read_background_noise(override(chosen, ["data.background=noises"]), parts, Waveforms)
    shutil.rmtree(folder)
    assert [clip.path.name for clip in noises.clips] == ["train.flac"]
    assert read_background_noise(base, parts, Waveforms) == ()


def test_one_class_and_unknown_are_refused(base: Experiment) -> None:
    one = override(base, [f"data.where=label={partition(base).classes[0]}"])
    with pytest.raises(UserError, match="Training needs two or more classes"):
        check_clips(one, partition(one))


def test_ledger_has_every_row_and_the_faults_of_reading(base: Experiment) -> None:
    parts = partition(base)
    broken = parts.train[0].path
    whole = broken.read_bytes()
    broken.write_bytes(b"")
    waveforms = Waveforms(parts.train, 16_000)
    broken.write_bytes(whole)
    rows = training_ledger(parts, waveforms.ledger).rows
    assert len(rows) == len(parts.manifest.ledger.rows)
    assert [row.path for row in rows if row.status == "quarantined"] == [str(broken)]
