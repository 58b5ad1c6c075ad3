"""Checks of arguments that several verbs share, made before a library that takes seconds to import is loaded.

None of them reads a recording or a weight: they look at numbers, names, and whether files are there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birdnet_fs.core.errors import UserError
from birdnet_fs.core.text import escaped

if TYPE_CHECKING:
    from birdnet_fs import schema
    from birdnet_fs.inference.describe import ModelDescription


def check_numbers(**limits: tuple[float, float, float]) -> None:
    """Refuse options out of range.

    Args:
        **limits: (value, lowest, highest) by the name of the option without its dashes.

    Raises:
        UserError: A value is below or above its limits, or not a number.
    """
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            wanted = f"{low:g} or more" if value < low else f"in {low:g}..{high:g}"
            raise UserError(f"--{name} must be {wanted}. Received: {value}")


def check_exists(**paths: Path | None) -> None:
    """Refuse files and folders that do not exist; UserError names the first.

    Args:
        **paths: Path by the name of the argument; None is skipped.

    Raises:
        UserError: A path does not exist.
    """
    for name, path in paths.items():
        if path is not None and not path.exists():
            raise UserError(f"{name} must be a file or folder that exists; {escaped(path)} does not exist.")


def check_inputs(inputs: Sequence[Path]) -> None:
    """Refuse recordings or folders that do not exist; UserError names the first."""
    for path in inputs:
        if not path.exists():
            raise UserError(f"The recording or folder {escaped(path)} does not exist.")


def check_data_settings(settings: Sequence[str]) -> None:
    """Refuse settings of a verb that reads labeled recordings.

    Args:
        settings: `data.KEY=VALUE` each.

    Raises:
        UserError: A setting is of another group, unknown, or has a wrong value.
    """
    from birdnet_fs import schema
    from birdnet_fs.core.settings import assigned

    wrong = next((s for s in settings if not s.startswith("data.")), None)
    if wrong is not None:
        raise UserError(f"Settings of this command must be data.KEY=VALUE. Received: {wrong!r}")
    assigned(schema.Experiment(), settings)


def check_windows(model: Path, *, overlap: float, batch_size: int, threads: int) -> "ModelDescription":
    """Check the options of verbs that cut recordings into windows, and the text files of the model.

    Args:
        model: Run folder, ensemble or exported file.
        overlap: Overlap of consecutive windows in seconds.
        batch_size: Windows per batch.
        threads: CPU threads; 0 = default.

    Returns:
        The description of the model. A UserError of `describe_model` is passed on, and one is raised for an option out
        of range.
    """
    from birdnet_fs.data.windows import overlap_rule
    from birdnet_fs.inference.describe import describe_model

    check_numbers(batch_size=(batch_size, 1, 65_536), threads=(threads, 0, 1024))
    described = describe_model(model)
    overlap_rule(described.segment_s, described.sample_rate_hz, overlap)
    return described


def check_experiment(experiment: "schema.Experiment") -> None:
    """Check that the folders and files of an experiment exist.

    Args:
        experiment: The experiment.

    Raises:
        UserError: A folder or file that a setting names is missing, a teacher or base run is damaged, or a library for
            tracking is not installed.
    """
    from birdnet_fs import schema
    from birdnet_fs.inference.describe import describe_model

    data, weights = experiment.data, experiment.model.weights
    places: Mapping[str, str] = {
        "data.root": data.root,
        "model.weights": weights,
        "data.spectrograms": data.spectrograms,
        "pseudo_labels.table": experiment.pseudo_labels.table,
    }
    for key, place in places.items():
        if place and not Path(place).exists():
            raise UserError(f"{key} must be a file or folder that exists. Received: {place!r}")
    if data.table and Path(data.root).is_dir() and not (Path(data.root) / data.table).exists():
        raise UserError(f"data.table must be a file in {escaped(data.root)}. Received: {data.table!r}")
    if data.audio and Path(data.root).is_dir() and not (Path(data.root) / data.audio).is_dir():
        raise UserError(f"data.audio must be a folder in {escaped(data.root)}. Received: {data.audio!r}")
    if weights and Path(weights).is_dir():
        describe_model(weights)
    teacher = experiment.distillation.teacher
    if teacher and teacher != schema.SELF and "," not in teacher and not Path(teacher).exists():
        raise UserError(
            f"distillation.teacher must be a run folder, an ensemble, a .csv of probabilities or {schema.SELF}. "
            f"Received: {teacher!r}, which does not exist."
        )
    if experiment.pretrain:
        check_experiment(experiment.pretrain)


def check_file_output(path: Path | None) -> None:
    """Refuse an output file that cannot be written; a UserError of `check_output` is passed on.

    Args:
        path: File to write; None is skipped.

    Raises:
        UserError: The path is a folder.
    """
    from birdnet_fs.core.files import check_output

    if path is None:
        return
    if path.is_dir():
        raise UserError(f"An output file was expected; {escaped(path)} is a folder. Give the name of a file in it.")
    check_output(path.parent)
