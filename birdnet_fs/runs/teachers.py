"""Who teaches: the runs that `distillation.teacher` means, or the table of probabilities; and who may not."""

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
from birdnet_fs.data.score_table import read_probabilities, same_classes
from birdnet_fs.runs.ensemble import is_ensemble, load_ensemble
from birdnet_fs.runs.run import CONFIG, Run, load_run

SAME_S = 2e-3  # times in tables are rounded


def teacher_paths(teacher: str) -> tuple[str, ...]:
    """The paths of a setting that names one path, or several by comma.

    >>> teacher_paths("runs/a, runs/b")
    ('runs/a', 'runs/b')
    """
    if os.path.exists(teacher):
        return (teacher,)
    return tuple(place.strip() for place in teacher.split(",") if place.strip())


def load_teachers(experiment: schema.Experiment) -> tuple[Run, ...]:
    """The runs that teach; none when nobody, the experiment itself or a table does.

    Raises:
        UserError: There is no run where one should be.
    """
    chosen = experiment.distillation
    if not chosen.teacher or chosen.teacher == schema.SELF or chosen.saved:
        return ()
    return tuple(run for place in teacher_paths(chosen.teacher) for run in _runs(Path(place), experiment))


def _runs(place: Path, experiment: schema.Experiment) -> tuple[Run, ...]:
    if is_ensemble(place):
        return load_ensemble(place).members
    if (place / CONFIG).is_file():
        return (load_run(place),)
    own = f"fold{experiment.data.fold}"
    for folder in (place / own, place / f"seed{experiment.seed}" / own):
        if folder.is_dir():
            return _runs(folder, experiment)
    raise UserError(
        f"distillation.teacher must be a run folder, an ensemble, several by comma, a folder of them with {own} "
        f"(data.fold), a .csv of probabilities, or {schema.SELF}. Received: {escaped(place)}"
    )


def teacher_names(
    experiment: schema.Experiment, classes: Sequence[str]
) -> tuple[tuple[Run, ...], "SavedProbabilities | None"]:
    """The runs that teach, or the table; neither when nobody does, or the experiment itself.

    Args:
        experiment: The student's.
        classes: Its classes.

    Raises:
        UserError: As `load_teachers`, `check_teachers` and `SavedProbabilities`.
    """
    runs = load_teachers(experiment)
    check_teachers(runs, experiment, classes)
    data, chosen = experiment.data, experiment.distillation
    if not chosen.saved:
        return runs, None
    return (), SavedProbabilities(Path(chosen.teacher), Path(data.root), classes, multi_label=data.multi_label)


def check_teachers(runs: Sequence[Run], experiment: schema.Experiment, classes: Sequence[str]) -> None:
    """Refuse teachers whose answers mean something else, or who cannot hear what the student hears.

    Raises:
        UserError: Other classes (their order may be another), another activation, or changes to the spectrogram that
            another front-end cannot hear.
    """
    multi_label = experiment.data.multi_label
    for run in runs:
        same_classes(run.classes, classes, str(run.path))
        if run.multi_label != multi_label:
            kinds = ("one class a clip (softmax)", "any number of classes (sigmoid)")
            raise UserError(
                f"{run.path} tells {kinds[not multi_label]} and cannot teach a network that tells "
                f"{kinds[multi_label]}; set data.multi_label={str(not multi_label).lower()} or choose another "
                "distillation.teacher."
            )
        if experiment.augmentation.animal_spot.p and not same_features(run.frontend, experiment.frontend):
            raise UserError(
                f"augmentation.animal_spot changes spectrograms, which {run.path} with its other front-end cannot "
                "hear; set augmentation.animal_spot.p=0 or give the student the teacher's front-end."
            )


class SavedProbabilities:
    """A table of probabilities that teachers gave to clips.

    Args:
        path: As `birdnet-fs evaluate RUN RECORDINGS -o FOLDER` writes scores.csv (data/score_table.py).
        root: Folder that paths in it are relative to, where they are not absolute.
        classes: Those of the student, in the order wanted.
        multi_label: Any number of classes, else a row's probabilities sum to 1.

    Raises:
        UserError: As `read_probabilities`.
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
        """The probabilities of clips, float32 [n_clips, n_classes].

        Raises:
            UserError: Some are not in the table.
        """
        found = [self._of(clip) for clip in clips]
        lost = [clip for clip, row in zip(clips, found, strict=True) if row is None]
        if lost:
            raise UserError(
                f"{escaped(self.path)} must hold every clip that is trained on; {len(lost)} of {len(clips)} are not in "
                f"it (the first: {escaped(lost[0].path)} at {lost[0].onset_s:g} s); score them with birdnet-fs "
                "evaluate."
            )
        return np.stack([row for row in found if row is not None])

    def _of(self, clip: Clip) -> NDArray[np.float32] | None:
        rows = self._rows.get(str(clip.path), ())
        # a clip without an end has its recording's: a row that others go beyond is about a part of it
        end = clip.offset_s if clip.offset_s is not None else max((row[0] + row[1] for row in rows), default=0.0)
        for onset, duration, row in rows:
            if abs(onset - clip.onset_s) < SAME_S and abs(duration - (end - clip.onset_s)) < SAME_S:
                return row
        return None
