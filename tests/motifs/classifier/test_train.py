"""Training, storage and division of clips; macro F1 against scikit-learn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from motif_folders import write_motifs
from sklearn.metrics import f1_score

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.motifs.classifier.clips import LabeledClip, motif_clips
from birdnet_fs.motifs.classifier.model import clip_vectors, open_classifier
from birdnet_fs.motifs.classifier.train import macro_f1, split_clips, train_classifier
from birdnet_fs.motifs.clip_embeddings import open_embedding


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    write_motifs(folder / "motifs")
    clips = motif_clips(folder / "motifs")
    return folder, clips, train_classifier(clips, open_embedding("logmel"), folder / "model")


def test_classes_are_told_apart_and_the_folder_is_text(trained):
    folder, clips, found = trained
    assert found.macro_f1 == 1.0 and (found.n_train, found.n_test) == (44, 4)
    files = sorted(str(path.relative_to(folder / "model")) for path in (folder / "model").rglob("*") if path.is_file())
    assert files == ["metadata.json", "trees/0.txt", "trees/1.txt"]
    about = json.loads((folder / "model/metadata.json").read_text())
    assert about["classes"] == ["akiapo", "houfin"] and about["clips"] == {"akiapo": 24, "houfin": 24}
    stored = open_classifier(folder / "model")
    x = clip_vectors(stored.features, None, [each.clip for each in clips]).vectors
    assert np.array_equal(stored.probabilities(x), found.classifier.probabilities(x))
    right = stored.probabilities(x).argmax(1) == [each.label == "houfin" for each in clips]
    assert right.all()


def test_existing_and_damaged_folders_are_refused(trained, tmp_path):
    folder, clips, _ = trained
    with pytest.raises(UserError, match="exists already; give another folder, or --overwrite"):
        train_classifier(clips, open_embedding("logmel"), folder / "model")
    with pytest.raises(UserError, match=r"two classes or more\. Received: akiapo"):
        train_classifier(clips[:24], open_embedding("logmel"), tmp_path / "one")
    shutil.copytree(folder / "model", tmp_path / "model")
    shutil.copy(tmp_path / "model/trees/0.txt", tmp_path / "model/trees/1.txt")
    with pytest.raises(UserError, match=r"1\.txt is not the file that metadata\.json describes"):
        open_classifier(tmp_path / "model")
    (tmp_path / "model/metadata.json").write_text("{}")
    with pytest.raises(UserError, match="does not describe a classifier of this version"):
        open_classifier(tmp_path / "model")
    with pytest.raises(UserError, match="A folder written by `birdnet-fs classify train` was expected"):
        open_classifier(tmp_path)


def test_split_keeps_copies_of_a_recording_together():
    places = [(label, n, copy) for label in "ab" for n in range(20) for copy in range(5)]
    clips = [LabeledClip(label, f"XC{n}_{copy}", f"XC{n}", Clip(Path("x"))) for label, n, copy in places]
    clips.append(LabeledClip("c", "XC1_0", "XC1", Clip(Path("x"))))
    train, test = split_clips(clips, 0)
    assert sorted([*train, *test]) == list(range(201)) and len(test) == 20

    def owners(part):
        return {(clips[i].label, clips[i].recording) for i in part}

    assert not owners(train) & owners(test) and {label for label, _ in owners(test)} == {"a", "b"}
    assert np.array_equal(split_clips(clips[:100], 0)[1], test[test < 100])  # other classes do not matter
    assert not np.array_equal(split_clips(clips, 1)[1], test)


def test_macro_f1_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    classes = tuple("abcd")
    for _ in range(20):
        labels, p = rng.choice(list("abc"), 12), rng.random((12, 4))
        predicted = np.array(classes)[p.argmax(1)]
        assert macro_f1(labels, p, classes) == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert np.isnan(macro_f1(np.array([]), np.zeros((0, 4)), classes))
