"""The run folder: the only truth about a run.

`weights.safetensors` (nothing pickled; the network is rebuilt from code), `config.json`, `classes.txt`,
`versions.json`, and what training adds: `metrics.json`, `scores.csv`, `history.csv`, `report.html`.
Predicting, evaluating and exporting read it and nothing else. Opening a stranger's run executes nothing.
"""

import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import __version__, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import atomic_path, write_json, write_text
from birdnet_fs.core.settings import to_dict
from birdnet_fs.runs.config_file import VERSIONS, read_experiment

if TYPE_CHECKING:
    import keras
    import numpy as np

WEIGHTS, CONFIG, CLASSES = "weights.safetensors", "config.json", "classes.txt"
ENSEMBLE = "ensemble.json"  # what makes a folder an ensemble of runs (ensemble_folder.py)
CHECKPOINTS = "checkpoints"  # folder of a run folder that holds earlier states of it, run folders too
# of evaluating the run, and where the numbers of that go
RESULTS = ("metrics.json", "scores.csv", "held_out.csv", "report.html", "tracking.json")
_LIBRARIES = ("keras", "torch", "tensorflow-cpu", "tensorflow", "numpy", "scipy", "numba", "soundfile", "soxr")


@dataclass(frozen=True)
class Run:
    """A trained run: its settings, its classes in model order, and where it lies."""

    path: Path
    experiment: schema.Experiment
    classes: tuple[str, ...]

    @property
    def frontend(self) -> schema.FrontEnd:
        """The front-end the network was trained on."""
        return self.experiment.frontend

    @property
    def title(self) -> str:
        """The name of the experiment, and which checkpoint of it this is."""
        name, folder = self.experiment.name, self.path.resolve()
        return f"{name}, {folder.name}" if folder.parent.name == CHECKPOINTS else name

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have any number of labels; else it has one."""
        return self.experiment.data.multi_label

    @property
    def activation(self) -> str:
        """What turns logits into probabilities: "sigmoid" (multi-label) or "softmax"."""
        return self.experiment.data.activation

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(n_frames, n_mels, n_channels) the network reads."""
        return (*self.frontend.shape, self.frontend.n_channels)

    def build_model(self) -> "keras.Model":
        """The network from code with this run's weights, float32, on the Keras backend in use.

        Returns:
            A Keras model: features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes].

        Raises:
            UserError: The weights do not fit the network that the settings describe.
        """
        model = build_network(self.experiment, n_classes=len(self.classes))
        load_weights(model, self.path / WEIGHTS)
        return model


def build_network(experiment: schema.Experiment, n_classes: int) -> "keras.Model":
    """The untrained network of an experiment: features [batch, *input_shape] -> logits [batch, n_classes]."""
    from birdnet_fs import models

    spec = experiment.frontend
    network = models.build(
        experiment.model.name,
        input_shape=(*spec.shape, spec.n_channels),
        n_classes=n_classes,
        dropout=experiment.model.dropout,
        head=experiment.model.head,
        logit_scale=experiment.logit_scale,
        distance=experiment.model.distance,
        unknown=experiment.model.unknown,
        channels=experiment.model.channels,
        block_dropout=experiment.model.block_dropout,
    )
    if not experiment.model.quantized:
        return network
    from birdnet_fs.models.quantization.convert import quantize

    return quantize(network)


def load_run(path: Path | str) -> Run:
    """Open a run folder.

    Raises:
        UserError: The folder is not a run, a newer version wrote it, or one of its files is missing or unreadable.
    """
    path = Path(path)
    if (path / ENSEMBLE).is_file():
        raise UserError(
            f"{path} is an ensemble, and one run is needed here: take its members ({path / 'members' / '0'}, ...), or "
            f"distil them into one (birdnet-fs train CONFIG:NAME distillation.teacher={path}) and take that."
        )
    for name in (CONFIG, CLASSES, WEIGHTS):
        if not (path / name).is_file():
            why = "it holds no such file" if path.is_dir() else "there is no such folder"
            if any(path.glob("fold[0-9]*/" + CONFIG)):
                why = f"it holds folds; take one of them, or all as one model (birdnet-fs ensemble {path})"
            raise UserError(f"A run folder with {name} was expected at {path}; {why}.")
    experiment = read_experiment(path / CONFIG)
    classes = tuple((path / CLASSES).read_text(encoding="utf-8").splitlines())
    if not classes or len(set(classes)) != len(classes):
        raise UserError(f"{path / CLASSES} must name one or more classes, each once, a line each.")
    return Run(path=path, experiment=experiment, classes=classes)


def check_classes(classes: Sequence[str]) -> None:
    """Refuse class names that cannot be stored.

    Raises:
        UserError: A name is empty, holds a line break or `;` (which stands between labels), or is not UTF-8.
    """
    for name in classes:
        if name.splitlines() != [name] or not name.strip() or ";" in name or not _is_utf8(name):
            raise UserError(f"Class names must be one line of UTF-8 text without ';'; rename the label {name!a}.")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def save_run(
    path: Path | str,
    experiment: schema.Experiment,
    classes: Sequence[str],
    weights: "dict[str, np.ndarray]",
    *,
    also: Callable[[Path], None] = lambda folder: None,
) -> Run:
    """Write what makes a folder a run.

    `config.json` goes first where an earlier run lies and comes last, so that a folder is this run, or none. The
    results of an earlier run are removed with it.

    Args:
        path: The folder; made when absent.
        experiment: The resolved settings.
        classes: Class names in model order.
        weights: Arrays by Keras variable path, as `model_weights` gives them.
        also: Writes further files into the folder, before `config.json`.

    Raises:
        UserError: A class name cannot be stored, or a weight is not finite.
    """
    import numpy as np
    from safetensors.numpy import save

    path = Path(path)
    check_classes(classes)
    bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(f"Weights must be finite; {bad[0]!r} (and {len(bad) - 1} more) holds NaN or infinity.")
    path.mkdir(parents=True, exist_ok=True)
    remove_run(path)
    with atomic_path(path / WEIGHTS) as part:
        # safetensors writes memory as it lies: a kernel laid out for torch must be copied first
        # a full disk is an OSError of Python's alone, not of safetensors' own writing
        # (and one number without axes must stay so, which numpy's copy would give an axis)
        part.write_bytes(save({name: np.ascontiguousarray(v).reshape(v.shape) for name, v in weights.items()}))
    write_text(path / CLASSES, "".join(f"{name}\n" for name in classes))
    write_json(path / VERSIONS, library_versions())
    also(path)
    write_json(path / CONFIG, to_dict(experiment))
    return Run(path=path, experiment=experiment, classes=tuple(classes))


def remove_run(path: Path) -> None:
    """Take from a folder what makes it a run, and the results of that run; its weights and other files stay."""
    for name in (CONFIG, *RESULTS):
        (path / name).unlink(missing_ok=True)


def model_weights(model: "keras.Model") -> "dict[str, np.ndarray]":
    """The weights of a model as float32 arrays by variable path (random-number state is left out)."""
    import keras

    return {
        v.path: keras.ops.convert_to_numpy(v.value).astype("float32", copy=True)
        for v in model.weights
        if "seed_generator" not in v.path
    }


def read_weights(file: Path | str) -> "dict[str, np.ndarray]":
    """The arrays of a `weights.safetensors` by variable path.

    Raises:
        UserError: The file is unreadable.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a readable safetensors file ({error}); copy the run again.") from None


def load_weights(model: "keras.Model", file: Path | str) -> None:
    """Set a model's weights from a `weights.safetensors`, in place.

    Raises:
        UserError: The file is unreadable, or names or shapes differ; the first difference is named.
    """
    stored = read_weights(file)
    wanted = {v.path: v for v in model.weights if "seed_generator" not in v.path}
    odd = sorted(set(stored) ^ set(wanted))
    if odd:
        side = "is missing from" if odd[0] in wanted else "is not in the network but in"
        raise UserError(f"The network and {file} do not fit: {odd[0]!r} {side} the file ({len(odd)} differ).")
    for name, variable in wanted.items():
        if tuple(stored[name].shape) != tuple(variable.shape):
            raise UserError(
                f"The network and {file} do not fit: {name!r} has shape {tuple(stored[name].shape)} in the file, "
                f"{tuple(variable.shape)} in the network."
            )
        variable.assign(stored[name])


def library_versions() -> dict[str, Any]:
    """Versions of Python, this package and the libraries that decide the numbers."""
    found: dict[str, Any] = {"birdnet_fs": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
