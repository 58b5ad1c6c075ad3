"""The table of pseudo-labels: every window with its probabilities, broken recordings, and interrupted calls."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tolerances
from level_model import CLASSES, LevelModel, square, write_wav

from birdnet_fs.analysis.pseudo_labels import label_recordings
from birdnet_fs.core.errors import UserError
from birdnet_fs.data.pseudo_label_table import read_labeling_runs
from birdnet_fs.data.score_table import read_probabilities


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    square(folder / "a.wav", [0.125, 0.0])
    write_wav(folder / "b.wav", 2.75)
    (folder / "broken.wav").write_bytes(b"RIFF")
    return folder


def test_table_holds_every_window_with_its_probabilities(recordings, tmp_path, capsys):
    table = label_recordings(LevelModel().engine, [recordings], tmp_path / "out", runs=[tmp_path / "run"])
    found = read_probabilities(table, CLASSES, multi_label=True)
    assert found.paths == (str(recordings / "a.wav"),) * 2 + (str(recordings / "b.wav"),) * 3
    assert found.onsets_s.tolist() == [0, 1, 0, 1, 2] and found.durations_s.tolist() == [1, 1, 1, 1, 0.75]
    low, high = (1 / (1 + np.exp(6 - 60 * level)) for level in (0.0, 0.125))
    np.testing.assert_allclose(found.values[:2], [[high] * 3, [low] * 3], atol=tolerances.ACTIVATION)
    assert read_labeling_runs(table) == (tmp_path / "run",)
    about = json.loads((tmp_path / "out" / "pseudo.json").read_text(encoding="utf-8"))
    assert (about["recordings"], about["windows"], about["segment_s"]) == (3, 5, 1.0)
    assert "5 windows of 2 recordings" in capsys.readouterr().err
    assert not (tmp_path / "out" / "parts").exists()


def test_interrupted_call_continues_where_it_stopped(recordings, tmp_path):
    wanted = label_recordings(LevelModel().engine, [recordings], tmp_path / "whole").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        label_recordings(LevelModel(stop_after=4).engine, [recordings], tmp_path / "out", batch_size=2)
    assert not (tmp_path / "out" / "pseudo.csv").exists()
    rest = LevelModel()
    assert label_recordings(rest.engine, [recordings], tmp_path / "out", batch_size=2).read_bytes() == wanted
    assert rest.n_windows == 3


def test_table_of_the_same_model_and_recordings_is_kept(recordings, tmp_path, capsys):
    label_recordings(LevelModel().engine, [recordings], tmp_path / "out")
    same, other = LevelModel(), LevelModel()
    label_recordings(same.engine, [recordings], tmp_path / "out")
    assert same.n_windows == 0 and "already holds these recordings" in capsys.readouterr().err
    model = dataclasses.replace(other.engine, identity="fake 2")
    with pytest.raises(UserError, match=r"of other recordings \(the model or the overlap changed\); .*--overwrite"):
        label_recordings(model, [recordings], tmp_path / "out")
    label_recordings(model, [recordings], tmp_path / "out", overwrite=True)
    assert other.n_windows == 5


def test_table_of_other_recordings_is_not_replaced(recordings, tmp_path, capsys):
    def label(**named):
        return label_recordings(LevelModel().engine, [recordings], tmp_path / "out", **named)

    table = label()
    before = table.read_bytes()
    os.utime(recordings / "a.wav", (1, 1))  # a copied file has another time
    label()
    (recordings / "a.wav").rename(recordings / "moved.wav")
    write_wav(recordings / "c.wav", 2, seed=1)
    write_wav(recordings / "b.wav", 3)
    with pytest.raises(UserError, match=r"\(1 file moved, 1 recording replaced, 1 recording added\)"):
        label()
    assert table.read_bytes() == before
    label(overwrite=True)
    edited = table.read_bytes().replace(b"c.wav", b"d.wav")
    table.write_bytes(edited)
    capsys.readouterr()
    label()
    assert table.read_bytes() == edited and "was edited since, and is kept" in capsys.readouterr().err
    label(overwrite=True)
    assert table.read_bytes() != edited
    (tmp_path / "out" / "pseudo.json").unlink()
    with pytest.raises(UserError, match=r"pseudo\.json does not state what it was made from"):
        label()


def test_what_gives_no_table_is_refused(recordings, tmp_path):
    engine = LevelModel().engine
    with pytest.raises(UserError, match="None of the 1 recordings could be read"):
        label_recordings(engine, [recordings / "broken.wav"], tmp_path / "out")
    assert not (tmp_path / "out" / "pseudo.csv").exists()
    with pytest.raises(UserError, match="batch_size must be 1 or more"):
        label_recordings(engine, [recordings], tmp_path / "out", batch_size=0)
    with pytest.raises(UserError, match="Pseudo-labels need probabilities, but this ensemble combines ranks"):
        label_recordings(dataclasses.replace(engine, gives_ranks=True), [recordings], tmp_path / "out")
