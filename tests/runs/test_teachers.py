"""Teacher runs and saved probabilities; distillation with them is tested in training/test_distillation.py."""

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from birdnet_fs.core.errors import UserError
from birdnet_fs.data.manifest import Clip
from birdnet_fs.runs import teachers
from birdnet_fs.runs.run import build_network, model_weights, save_run
from birdnet_fs.schema import Augmentation, Data, Distillation, Experiment, FrontEnd, Model

PLAIN = Experiment(data=Data(fold=1), frontend=FrontEnd(segment_s=0.6, n_mels=32), model=Model("cnn/tiny"))
CLASSES = ("a", "b")


def taught(teacher: object, **data: object) -> Experiment:
    return dataclasses.replace(
        PLAIN, distillation=Distillation(str(teacher)), data=dataclasses.replace(PLAIN.data, **data)
    )


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs in fold0 and fold1."""
    folder = tmp_path_factory.mktemp("cv")
    weights = model_weights(build_network(PLAIN, 2))
    for fold in ("fold0", "fold1"):
        save_run(folder / fold, PLAIN, CLASSES, weights)
    return folder


def test_teacher_paths_keep_a_folder_with_a_comma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert teachers.teacher_paths("a,b, c,") == ("a", "b", "c")
    (tmp_path / "a,b").mkdir()
    assert teachers.teacher_paths("a,b") == ("a,b",)


def test_teachers_are_runs_or_the_fold_of_a_folder(folds: Path) -> None:
    (run,) = teachers.load_teachers(taught(folds))
    assert run.path == folds / "fold1"
    both = teachers.load_teachers(taught(f"{folds / 'fold0'},{folds / 'fold1'}"))
    assert [run.path.name for run in both] == ["fold0", "fold1"]
    assert teachers.load_teachers(PLAIN) == ()
    with pytest.raises(UserError, match=r"a folder with fold3 \(data\.fold\), .*Received: "):
        teachers.load_teachers(taught(folds, fold=3))


def test_teachers_that_do_not_fit_are_refused(folds: Path) -> None:
    (run,) = teachers.load_teachers(taught(folds))
    teachers.check_teachers([run], PLAIN, ("b", "a"))
    with pytest.raises(UserError, match="must have the 2 classes"):
        teachers.check_teachers([run], PLAIN, ("a", "c"))
    with pytest.raises(UserError, match=r"one class per clip \(softmax\) and that of the student any number"):
        teachers.check_teachers([run], taught(folds, multi_label=True), CLASSES)
    other = dataclasses.replace(PLAIN, frontend=dataclasses.replace(PLAIN.frontend, n_mels=33))
    teachers.check_teachers([run], other, CLASSES)
    spot = dataclasses.replace(PLAIN.augmentation.animal_spot, p=1.0)
    other = dataclasses.replace(other, augmentation=Augmentation(animal_spot=spot))
    with pytest.raises(UserError, match=r"but .*fold1 has another front-end; set augmentation"):
        teachers.check_teachers([run], other, CLASSES)


def test_saved_probabilities_are_found_by_clip(tmp_path: Path) -> None:
    path, clip = tmp_path / "soft.csv", Clip(tmp_path / "a.wav", 1.0, 4.0)
    head = "path,onset_s,duration_s,group,labels,b,a\n"

    csv.field_size_limit(131_072)  # other libraries raise the limit of the whole process

    def saved(lines: str, **more) -> teachers.SavedProbabilities:
        path.write_text(lines)
        return teachers.SavedProbabilities(path, tmp_path, ("a", "b"), **{"multi_label": False, **more})

    found = saved(head + "a.wav,1,2,g,,.5,.5\na.wav,1,3,g,,.25,.75\na.wav,2,3,g,,1,0\n")
    np.testing.assert_array_equal(found.of([clip]), np.array([[0.75, 0.25]], np.float32))
    for lines, words in (
        (head + "a.wav,1,3,g,,.5,.6\n", r"line 2: probabilities must lie in 0\.\.1 and sum to 1"),
        (head + "a.wav,1,3,g,,nan,.6\n", r"line 2: probabilities must lie"),
        (head + "a.wav,1,x,g,,.5,.5\n", "line 2: could not convert"),
        ("path,a,b\n", "must have the columns path, onset_s, duration_s and one column per class"),
        (head.replace(",a", ",c"), "must have the 2 classes"),
        (head + 'a.wav,1,3,g,,.5,"' + "5" * 200_000, "line 2: field larger than field limit"),
    ):
        with pytest.raises(UserError, match=words):
            saved(lines)
    assert saved(head + "a.wav,1,3,g,,.9,.6\n", multi_label=True).of([clip])[0].tolist() == pytest.approx([0.6, 0.9])
    with pytest.raises(UserError, match="1 of 1 are not in it"):
        found.of([dataclasses.replace(clip, onset_s=1.5)])
    # a whole recording is not its first window
    whole = dataclasses.replace(clip, onset_s=0.0, offset_s=None)
    windows = head + "a.wav,0,3,,,.5,.5\na.wav,3,3,,,1,0\n"
    with pytest.raises(UserError, match="1 of 1 are not in it"):
        saved(windows).of([whole])
    assert saved(windows + "a.wav,0,6,,,0,1\n").of([whole])[0].tolist() == [1.0, 0.0]
