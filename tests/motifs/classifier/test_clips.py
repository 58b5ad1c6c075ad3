"""Which files are clips of which class and recording."""

import json

import pytest
from motif_folders import write_motifs
from soundscapes import write_soundscapes

from birdnet_fs.core.errors import UserError
from birdnet_fs.motifs.classifier.clips import motif_clips, other_clips, read_filter_set


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("motifs")
    write_motifs(folder / "motifs", 3)
    return folder


def test_clips_have_class_and_recording_and_no_discords(root):
    found = motif_clips(root / "motifs")
    assert [(each.label, each.name, each.recording) for each in found][:2] == [
        ("akiapo", "XC0.motif.0", "XC0"),
        ("akiapo", "XC1.motif.0", "XC1"),
    ]
    assert len(found) == 6


def test_filter_set_chooses_classes_and_names_the_missing(root, tmp_path, capsys):
    (tmp_path / "scored_birds.json").write_text(json.dumps(["houfin", "elepai"]))
    names = read_filter_set(tmp_path / "scored_birds.json")
    assert {each.label for each in motif_clips(root / "motifs", names)} == {"houfin"}
    assert "1 of 2 classes of the filter have no clips: elepai" in capsys.readouterr().err
    with pytest.raises(UserError, match="has no clips of the 1 classes of the filter"):
        motif_clips(root / "motifs", ["elepai"])
    (tmp_path / "scored_birds.json").write_text('{"a": 1}')
    with pytest.raises(UserError, match="must be a JSON list of classes"):
        read_filter_set(tmp_path / "scored_birds.json")
    with pytest.raises(UserError, match="--motif-root must be a folder"):
        motif_clips(tmp_path / "none")


def test_windows_without_calls_are_the_class_other(tmp_path, capsys):
    write_soundscapes(tmp_path / "birdclef", 2, 2)
    found = other_clips(tmp_path / "birdclef", tmp_path / "default")
    assert [(each.label, each.name, each.clip.onset_s) for each in found] == [
        ("other", "7000_COR_20190904.window.10", 5.0),
        ("other", "7001_COR_20190904.window.5", 0.0),
    ]
    assert other_clips(None, tmp_path / "default") == []
    assert "There is no class 'other'" in capsys.readouterr().err
