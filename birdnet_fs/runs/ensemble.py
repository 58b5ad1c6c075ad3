"""The folder of an ensemble, which can be copied and shipped: its members, and how their scores are combined.

It holds `ensemble.json` (how scores are combined, and the SHA-256 of every file that affects a score), `classes.txt`,
`members/0`, `members/1`, ... (copies of the run folders without results of evaluation), `partition.csv` (which clips no
member was trained on) and, when ranks are combined, `positions.safetensors` (inference/ensemble.py). Scoring and
distillation read this folder and nothing else; opening one from an unknown source executes no code.
"""

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import __version__
from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.core.files import refuse_link, sha256, write_json, write_text
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.leftovers import complete_replacement, remove_leftovers
from birdnet_fs.core.text import escaped
from birdnet_fs.data.partition import PARTITION, write_partition
from birdnet_fs.encoders.reference import COPIES, ENCODER, read_encoders
from birdnet_fs.runs.config_file import VERSIONS
from birdnet_fs.runs.ensemble_file import AGAIN, FORMAT, POSITIONS, read_about
from birdnet_fs.runs.merged_partition import merged_partition
from birdnet_fs.runs.run import (
    CALIBRATION,
    CALIBRATION_PAGE,
    CLASSES,
    CONFIG,
    ENSEMBLE,
    RESULTS,
    THRESHOLDS,
    WEIGHTS,
    Run,
    load_run,
)
from birdnet_fs.runs.tensors import read_shapes, read_weights

if TYPE_CHECKING:
    import numpy as np

COMBINE = ("mean", "rank", "power", "min")
POWER = 2.0
MEMBERS = "members"
_COPIED = (WEIGHTS, CLASSES, VERSIONS, PARTITION, ENCODER, CONFIG)
_CHECKED = (WEIGHTS, CLASSES, CONFIG)
# replaced; other entries stay
FILES_OF_AN_ENSEMBLE = (
    *(ENSEMBLE, CLASSES, MEMBERS, POSITIONS, PARTITION, *RESULTS),
    *(CALIBRATION, THRESHOLDS, CALIBRATION_PAGE),
)
LARGEST_POWER = 1000.0  # only the largest probability counts then; and the smallest, 1/1000, makes all of them equal


@dataclass(frozen=True)
class Ensemble:
    """An ensemble on disk.

    Attributes:
        path: Folder of the ensemble.
        how: Rule by which scores are combined, one of COMBINE.
        power: Exponent of "power".
        members: Runs of the ensemble, two or more; all have its classes, each in its own order.
    """

    path: Path
    how: str
    power: float
    members: tuple[Run, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the scores: that of the first member."""
        return self.members[0].classes

    @property
    def columns(self) -> "list[np.ndarray]":
        """For each member [n_classes]: the column of each class of the ensemble in the member's logits."""
        return [class_columns(run, self.members[0]) for run in self.members]

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have any number of labels."""
        return any(run.multi_label for run in self.members)

    @property
    def title(self) -> str:
        """Number and names of the members."""
        names = dict.fromkeys(run.experiment.name for run in self.members)
        return f"{len(self.members)} runs of {', '.join(names)}"

    @property
    def about(self) -> str:
        """A sentence for a report: members, networks and how scores are combined."""
        networks = dict.fromkeys(map(_network, self.members))
        how = {
            "mean": "mean probability",
            "power": f"mean of p ** {self.power:g}",
            "min": "smallest probability",
            "rank": "mean rank",
        }[self.how]
        sentence = f"An ensemble of {len(self.members)} runs ({', '.join(networks)}), combined by their {how}."
        if self.how != "rank":
            return sentence
        return (
            f"{sentence} Its scores are positions among clips that the members were not trained on (0.9: above nine "
            "tenths of them). They rank clips and are not probabilities, so a threshold of 0.5 has no meaning."
        )

    def positions(self) -> "list[np.ndarray]":
        """Reference scores of an ensemble that combines ranks.

        Returns:
            For each member the table of `inference.ensemble.positions`, float32 [n_points, n_classes].

        Raises:
            UserError: The file is missing or has been changed.
        """
        file, n_classes = self.path / POSITIONS, len(self.classes)
        refuse_link(file, self.path, AGAIN)
        if not file.is_file() or sha256(file) != read_about(self.path)[POSITIONS]:
            raise UserError(f"{file} is missing or was changed; {AGAIN}.")
        shapes = read_shapes(file)
        wanted = [str(i) for i in range(len(self.members))]
        if sorted(shapes) != sorted(wanted) or any(len(s) != 2 or s[1] != n_classes for s in shapes.values()):
            raise UserError(
                f"{file} must hold a table [n_points, {n_classes}] for each of {len(wanted)} members; {AGAIN}."
            )
        stored = read_weights(file)
        return [stored[name] for name in wanted]


def is_ensemble(path: Path | str) -> bool:
    """Whether a folder is an ensemble."""
    complete_replacement(path)
    return (Path(path) / ENSEMBLE).is_file()


def _network(run: Run) -> str:
    if run.experiment.model.encoder:
        return (
            f"head {run.experiment.model.head} on {', '.join(each.name for each in read_encoders(run.path).encoders)}"
        )
    return f"{run.experiment.model.name} on {run.frontend.preset}"


def check_members(runs: Sequence[Run], how: str, power: float = POWER) -> None:
    """Refuse runs that cannot be combined.

    Args:
        runs: The members.
        how: Rule by which scores are combined, one of COMBINE.
        power: Exponent of "power". Default: POWER.

    Raises:
        UserError: `how` is none of COMBINE, the power is not above 0, there are fewer than two runs, their classes are
            not the same, a run is calibrated, or probabilities of softmax and sigmoid would be averaged.
    """
    check_combination(how, power)
    if len(runs) < 2:
        raise UserError(f"An ensemble needs two runs or more. Received: {len(runs)}")
    for run in runs:
        if (run.path / CALIBRATION).is_file():
            raise UserError(
                f"{escaped(run.path)} is calibrated, which an ensemble of it would not be; combine the runs that were "
                "calibrated, and calibrate the ensemble (birdnet-fs calibrate)."
            )
        class_columns(run, runs[0])
        if how != "rank" and run.activation != runs[0].activation:
            raise UserError(
                "The members of an ensemble must all be multi-label or none, unless ranks are combined: "
                f"{escaped(run.path)} has {run.activation} scores and {escaped(runs[0].path)} {runs[0].activation}; "
                "use --combine rank."
            )


def check_combination(how: str, power: float = POWER) -> None:
    """Refuse a way to combine scores.

    Args:
        how: Rule by which scores are combined, one of COMBINE.
        power: Exponent of "power". Default: POWER.

    Raises:
        UserError: `how` is none of COMBINE, or the power is out of range.
    """
    if how not in COMBINE:
        raise UserError(f"combine must be one of {', '.join(COMBINE)}.{nearest(how, COMBINE)} Received: {how!r}")
    if not (power > 0 and math.isfinite(power)):
        raise UserError(f"power must be a number above 0. Received: {power}")
    if not 1 / LARGEST_POWER <= power <= LARGEST_POWER:
        raise UserError(f"power must be in {1 / LARGEST_POWER:g}..{LARGEST_POWER:g}. Received: {power}")


def save_ensemble(
    path: Path | str,
    runs: Sequence[Run],
    *,
    how: str = "mean",
    power: float = POWER,
    positions: "Sequence[np.ndarray]" = (),
    overwrite: bool = False,
) -> Ensemble:
    """Write an ensemble, whole or not at all; an existing one with the same members and settings is kept.

    Args:
        path: The folder.
        runs: Two runs or more, of the same classes in any order.
        how: Rule by which scores are combined, one of COMBINE. Default: "mean".
        power: Exponent of "power", above 0. Default: POWER.
        positions: float32 [n_points, n_classes] of each run, with "rank" only, the classes in the order of the first
            run (`inference.ensemble.position_table`). Default: ().
        overwrite: Whether to replace an ensemble of other members or settings. Default: False.

    Returns:
        The ensemble.

    Raises:
        UserError: The runs cannot be combined (`check_members`), or the folder is not empty and is not this ensemble.
        ValueError: `how` is "rank" and there is not one table for each run.
    """
    from safetensors.numpy import save

    path = Path(path)
    remove_leftovers(path.parent)
    check_members(runs, how, power)
    if how == "rank" and len(positions) != len(runs):
        raise ValueError(f"how='rank' needs one table for each of {len(runs)} members. Received: {len(positions)}")
    stored = save({str(i): table for i, table in enumerate(positions)}) if how == "rank" else b""
    about = {
        "format": FORMAT,
        "birdnet_fs": __version__,
        "combine": how,
        "power": power,
        "members": [{name: sha256(run.path / name) for name in _checked(run)} for run in runs],
        POSITIONS: hashlib.sha256(stored).hexdigest() if stored else "",
        "made_of": [escaped(run.path) for run in runs],
    }
    neutral = {"made_of": 0, "birdnet_fs": ""}
    if is_ensemble(path) and {**read_about(path), **neutral} == {**about, **neutral}:
        return load_ensemble(path)
    if path.exists() and not is_ensemble(path) and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} is not empty and is not an ensemble; give another folder with -o.")
    if is_ensemble(path) and not overwrite:
        changes = ", ".join(_changes(read_about(path), about))
        raise UserError(
            f"{path} is an ensemble of other members or settings ({changes}); give another folder with -o, or replace "
            "it with --overwrite."
        )
    with atomic_folder(path, stays=lambda name: name not in FILES_OF_AN_ENSEMBLE) as part:
        for i, run in enumerate(runs):
            (part / MEMBERS / str(i)).mkdir(parents=True)
            for name in _COPIED:
                if (run.path / name).is_file():
                    shutil.copyfile(run.path / name, part / MEMBERS / str(i) / name)
            if run.experiment.model.encoder and (run.path / COPIES).is_dir():
                shutil.copytree(run.path / COPIES, part / MEMBERS / str(i) / COPIES)
        if all((run.path / PARTITION).is_file() for run in runs):
            write_partition(part / PARTITION, merged_partition(runs))
        if stored:
            (part / POSITIONS).write_bytes(stored)
        write_text(part / CLASSES, "".join(f"{name}\n" for name in runs[0].classes))
        write_json(part / ENSEMBLE, about)
    return load_ensemble(path)


def _checked(run: Run) -> tuple[str, ...]:
    """Names of the files of a member whose hashes an ensemble holds."""
    return (*_CHECKED, ENCODER) if run.experiment.model.encoder else _CHECKED


def _changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Differences between two ensembles, in words."""
    found = [f"{key}={old[key]}, not {new[key]}" for key in ("combine", "power") if old[key] != new[key]]
    before, now = len(old["members"]), len(new["members"])
    if before != now:
        return [*found, f"{before} members, not {now}"]
    n_changed = sum(one != other for one, other in zip(old["members"], new["members"], strict=True))
    if n_changed:
        found.append(f"{n_changed} of {now} members changed")
    return found or ["the reference scores of its ranks changed"]


def load_ensemble(path: Path | str) -> Ensemble:
    """Open an ensemble folder.

    Args:
        path: The folder.

    Returns:
        The ensemble.

    Raises:
        UserError: The folder is not an ensemble, a newer version wrote it, or a file is missing, damaged, a link to
            another place, or has been changed.
    """
    path = Path(path)
    complete_replacement(path)
    about = read_about(path)
    folders = [path / MEMBERS / str(i) for i in range(len(about["members"]))]
    for folder in folders:
        refuse_link(folder, path, AGAIN)
    members = tuple(load_run(folder) for folder in folders)
    for run, hashes in zip(members, about["members"], strict=True):
        for name in _checked(run):
            if not isinstance(hashes, dict) or sha256(run.path / name) != hashes.get(name):
                raise UserError(f"{run.path / name} was changed; {AGAIN}.")
    check_members(members, about["combine"], about["power"])
    return Ensemble(path, about["combine"], float(about["power"]), members)


def class_columns(run: Run, first: Run) -> "np.ndarray":
    """The columns of the classes of one run in the logits of another.

    Args:
        run: The run with the logits.
        first: The run with the order of the classes.

    Returns:
        [n_classes], for each class of `first` its column in the logits of `run`.

    Raises:
        UserError: The runs do not have the same classes.
    """
    import numpy as np

    own, wanted = set(run.classes), set(first.classes)
    if own != wanted:
        odd = sorted(own ^ wanted)[0]
        has, lacks = (run, first) if odd in own else (first, run)
        raise UserError(
            f"The members of an ensemble must have the same classes: {escaped(has.path)} has {escaped(odd)!r} and "
            f"{escaped(lacks.path)} does not ({len(own ^ wanted)} differ); train them on the same labels."
        )
    place = {name: i for i, name in enumerate(run.classes)}
    return np.array([place[name] for name in first.classes])
