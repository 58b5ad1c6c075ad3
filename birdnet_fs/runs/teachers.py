"""Teachers of a distillation: the runs, or the table of saved probabilities, of `distillation.teacher`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birdnet_fs import schema
from birdnet_fs.batches.augment.teacher_features import same_features
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.data.score_table import read_probabilities
from birdnet_fs.data.targets import check_same_classes
from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
from birdnet_fs.runs.run import CONFIG, Run, load_run

SAME_S = 2e-3  # times closer than this are equal, since tables hold rounded times


def teacher_paths(teacher: str) -> tuple[str, ...]:
    """The paths in a setting that is one path, or several separated by commas.

    >>> teacher_paths("runs/a, runs/b")
    ('runs/a', 'runs/b')
    """
    if os.path.exists(teacher):
        return (teacher,)
    return tuple(path.strip() for path in teacher.split(",") if path.strip())


def load_teachers(experiment: schema.Experiment) -> tuple[Run, ...]:
    """Open the teacher runs of an experiment; a UserError of `load_run` is passed on.

    Args:
        experiment: The experiment of the student.

    Returns:
        The runs, members of ensembles one by one; none without distillation, and when the teacher is the experiment
        itself or a table.
    """
    chosen = experiment.distillation
    if not chosen.teacher or chosen.teacher == schema.SELF or chosen.saved:
        return ()
    return tuple(run for path in teacher_paths(chosen.teacher) for run in _runs(Path(path), experiment))


def _runs(path: Path, experiment: schema.Experiment) -> tuple[Run, ...]:
    if is_ensemble(path):
        return load_ensemble(path).members
    if (path / CONFIG).is_file():
        return (load_run(path),)
    own = f"fold{experiment.data.fold}"
    for folder in (path / own, path / f"seed{experiment.seed}" / own):
        if folder.is_dir():
            return _runs(folder, experiment)
    raise UserError(
        f"distillation.teacher must be a run folder, an ensemble, several of these separated by commas, a folder with "
        f"{own} (data.fold), a .csv of probabilities, or {schema.SELF}. Received: {escaped(path)}"
    )


def resolve_teachers(
    experiment: schema.Experiment, classes: Sequence[str]
) -> tuple[tuple[Run, ...], "SavedProbabilities | None"]:
    """Open and check the teachers of an experiment.

    UserErrors of `load_teachers`, `check_teachers` and `SavedProbabilities` are passed on.

    Args:
        experiment: The experiment of the student.
        classes: The classes of the student.

    Returns:
        The teacher runs, and the table of saved probabilities. There are no runs when there is a table, and neither
        without distillation and when the teacher is the experiment itself.
    """
    runs = load_teachers(experiment)
    check_teachers(runs, experiment, classes)
    data, chosen = experiment.data, experiment.distillation
    if not chosen.saved:
        return runs, None
    return (), SavedProbabilities(Path(chosen.teacher), Path(data.root), classes, multi_label=data.multi_label)


def check_teachers(runs: Sequence[Run], experiment: schema.Experiment, classes: Sequence[str]) -> None:
    """Refuse teachers whose output or input does not fit the student.

    Args:
        runs: The teachers.
        experiment: The experiment of the student.
        classes: The classes of the student.

    Raises:
        UserError: A teacher has other classes (in any order) or another activation, or another front-end while
            augmentation changes spectrograms.
    """
    multi_label = experiment.data.multi_label
    for run in runs:
        check_same_classes(run.classes, classes, str(run.path))
        if run.multi_label != multi_label:
            kinds = ("one class per clip (softmax)", "any number of classes (sigmoid)")
            raise UserError(
                f"The output of {run.path} is {kinds[not multi_label]} and that of the student {kinds[multi_label]}; "
                f"set data.multi_label={str(not multi_label).lower()} or choose another distillation.teacher."
            )
        if experiment.augmentation.animal_spot.p and not same_features(run.frontend, experiment.frontend):
            raise UserError(
                f"augmentation.animal_spot changes spectrograms, but {run.path} has another front-end; set "
                "augmentation.animal_spot.p=0 or give the student the front-end of the teacher."
            )


class SavedProbabilities:
    """A table with the probabilities of teachers for clips; UserErrors of `read_probabilities` are passed on.

    Args:
        path: A scores.csv, as `birdnet-fs evaluate RUN RECORDINGS -o FOLDER` writes it (data/score_table.py).
        root: Folder of relative paths in the table.
        classes: Classes of the student, in the order of the columns of `of`.
        multi_label: Whether a clip may have any number of classes, else the probabilities of a row sum to 1.
    """

    def __init__(self, path: Path, root: Path, classes: Sequence[str], *, multi_label: bool) -> None:
        self.path = path
        self._rows: dict[str, list[tuple[float, float, NDArray[np.float32]]]] = {}
        found = read_probabilities(path, classes, multi_label=multi_label)
        for name, onset, duration, row in zip(
            found.paths, found.onsets_s.tolist(), found.durations_s.tolist(), found.values, strict=True
        ):
            self._rows.setdefault(os.path.abspath(root / name), []).append((onset, duration, row))

    def of(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        """The probabilities of clips.

        Args:
            clips: Clips of the training.

        Returns:
            float32 [n_clips, n_classes].

        Raises:
            UserError: Some clips are not in the table.
        """
        found = [self._of(clip) for clip in clips]
        missing = [clip for clip, row in zip(clips, found, strict=True) if row is None]
        if missing:
            raise UserError(
                f"{escaped(self.path)} must hold every training clip; {len(missing)} of {len(clips)} are not in it "
                f"(the first: {escaped(missing[0].path)} at {missing[0].onset_s:g} s); score them with birdnet-fs "
                "evaluate."
            )
        return np.stack([row for row in found if row is not None])

    def _of(self, clip: Clip) -> NDArray[np.float32] | None:
        rows = self._rows.get(str(clip.path), ())
        # a clip without an offset ends with its recording, at the last end in the table; other rows are parts of it
        end = clip.offset_s if clip.offset_s is not None else max((row[0] + row[1] for row in rows), default=0.0)
        for onset, duration, row in rows:
            if abs(onset - clip.onset_s) < SAME_S and abs(duration - (end - clip.onset_s)) < SAME_S:
                return row
        return None
