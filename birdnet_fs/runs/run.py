"""The run folder, which holds everything about a run.

It holds `weights.safetensors` (nothing is pickled; the network is rebuilt from code), `config.json`, `classes.txt`,
`versions.json`, and what training adds: `partition.csv`, `metrics.json`, `scores.csv`, `history.csv`, `report.html`.
Scoring, evaluation and export read it and nothing else. Opening a run from an unknown source executes no code.
"""

import importlib.metadata
import math
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import __version__, schema
from birdnet_fs.core.class_names import check_class_names
from birdnet_fs.core.errors import UserError
from birdnet_fs.core.files import refuse_link, sha256, write_json, write_text
from birdnet_fs.core.folders import atomic_folder
from birdnet_fs.core.leftovers import complete_replacement
from birdnet_fs.core.settings import to_dict
from birdnet_fs.encoders.reference import COPIES, ENCODER, read_encoders
from birdnet_fs.runs.classes_file import read_classes
from birdnet_fs.runs.config_file import VERSIONS, read_experiment
from birdnet_fs.runs.tensors import LARGEST_FILE, check_shapes, read_shapes, read_weights
from birdnet_fs.schema import networks

if TYPE_CHECKING:
    import keras
    import numpy as np

WEIGHTS, CONFIG, CLASSES = "weights.safetensors", "config.json", "classes.txt"
ENSEMBLE = "ensemble.json"  # a folder with this file is an ensemble of runs (runs/ensemble.py)
CALIBRATION = "calibration.json"  # calibration and thresholds of a run or an ensemble (inference/calibration)
THRESHOLDS, CALIBRATION_PAGE = "thresholds.csv", "calibration.html"  # the same for people
TILE2VEC = "tile2vec.json"  # settings of a training on triplets, and what it was trained on
KERAS_FIT = "keras_fit.json"  # how `keras.Model.fit` trained a run: optimizer, loss, backend, policy
LARGE = 20_000_000  # weights of a network whose shapes are compared before it is made
CHECKPOINTS = "checkpoints"  # folder in a run folder with earlier epochs, each a run folder
# folders in a run folder: weights of a training that was stopped, and of one whose loss became infinite; history and
# checkpoints of a training that has not replaced the run yet
INTERRUPTED, DIVERGED, UNFINISHED = "interrupted", "diverged", "unfinished"
# results of an evaluation of the run
RESULTS = ("metrics.json", "scores.csv", "scores.json", "held_out.csv", "report.html", "tracking.json")
# all that belongs to the weights of a run; a new run in the folder replaces it and leaves all other entries there
FILES_OF_A_RUN = (
    *(WEIGHTS, CONFIG, CLASSES, VERSIONS, ENSEMBLE, *RESULTS, CHECKPOINTS, INTERRUPTED, DIVERGED, UNFINISHED),
    *("partition.csv", "recordings.csv", "history.csv", "inputs.json", "tensorboard", TILE2VEC),
    *(KERAS_FIT, "support.safetensors", "support.csv", "enrollment.json", ENCODER, COPIES),
    *(CALIBRATION, THRESHOLDS, CALIBRATION_PAGE),
)
# those of them that belong to a copy with the same weights
FILES_WITH_THE_WEIGHTS = tuple(
    name for name in FILES_OF_A_RUN if name not in (ENSEMBLE, *RESULTS, CHECKPOINTS, INTERRUPTED, DIVERGED, UNFINISHED)
)
_LIBRARIES = ("keras", "torch", "tensorflow-cpu", "tensorflow", "numpy", "scipy", "numba", "soundfile", "soxr")


@dataclass(frozen=True)
class Run:
    """A trained run.

    Attributes:
        path: Folder of the run.
        experiment: Settings of the run.
        classes: Class names in model order.
    """

    path: Path
    experiment: schema.Experiment
    classes: tuple[str, ...]

    @property
    def frontend(self) -> schema.FrontEnd:
        """The front-end that the network was trained with."""
        return self.experiment.frontend

    @property
    def title(self) -> str:
        """Name of the experiment, and of the checkpoint."""
        name, folder = self.experiment.name, self.path.resolve()
        return f"{name}, {folder.name}" if folder.parent.name == CHECKPOINTS else name

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have any number of labels; else it has one."""
        return self.experiment.data.multi_label

    @property
    def activation(self) -> str:
        """Activation of the logits: "sigmoid" (multi-label) or "softmax"."""
        return self.experiment.data.activation

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the input of the network: (n_frames, n_mels, n_channels); of a head on encoders (width,)."""
        if self.experiment.model.encoder:
            return read_encoders(self.path).input_shape
        return (*self.frontend.shape, self.frontend.n_channels)

    @property
    def n_own_scores(self) -> int:
        """Number of the encoder's own scores at the end of the features; 0 for networks."""
        return len(read_encoders(self.path).own_columns) if self.experiment.model.encoder else 0

    def build_model(self) -> "keras.Model":
        """Build the network from code and load its weights, float32, on the Keras backend in use.

        A UserError of `load_weights` is passed on when the weights do not fit the network of the settings.

        Returns:
            A Keras model: features [batch, *input_shape] -> logits [batch, n_classes]. Of a run on encoders it is the
            head, whose features are embeddings.
        """
        import keras

        _check_size(self)
        policy = keras.config.dtype_policy()  # that of a training in mixed precision is not for scores
        keras.config.set_dtype_policy("float32")
        try:
            model = build_network(self.experiment, len(self.classes), self.input_shape, self.n_own_scores)
        finally:
            keras.config.set_dtype_policy(policy)
        load_weights(model, self.path / WEIGHTS)
        return model


def build_network(
    experiment: schema.Experiment, n_classes: int, input_shape: tuple[int, ...] = (), n_own_scores: int = 0
) -> "keras.Model":
    """The network of an experiment with random weights.

    Args:
        experiment: The settings.
        n_classes: Width of the logits, 1 or more.
        input_shape: Shape of the embeddings that the head of an experiment with `model.encoder` reads. Default: (), for
            networks, which read the features of the front-end.
        n_own_scores: Number of the encoder's own scores at their end. Default: 0.

    Returns:
        A Keras model: features [batch, *input_shape] -> logits [batch, n_classes].
    """
    if experiment.model.encoder:
        from birdnet_fs.models.heads.own_scores import build_head_with_own_scores

        return build_head_with_own_scores(experiment.model, input_shape, n_classes, n_own_scores)
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
        trainable_mel=experiment.model.trainable_mel,
    )
    if not experiment.model.quantized:
        return network
    from birdnet_fs.models.quantization.convert import quantize

    return quantize(network)


def load_run(path: Path | str) -> Run:
    """Open a run folder.

    Args:
        path: The folder.

    Returns:
        The run; its weights are not loaded yet.

    Raises:
        UserError: The folder is not a run, a newer version wrote it, or one of its files is missing, unreadable or a
            link to another place.
    """
    path = Path(path)
    complete_replacement(path)
    if (path / ENSEMBLE).is_file():
        raise UserError(
            f"{path} is an ensemble, and one run is needed here: use one of its members ({path / 'members' / '0'}, "
            f"...), or distill them into one run (birdnet-fs train CONFIG:NAME distillation.teacher={path})."
        )
    for name in (CONFIG, CLASSES, WEIGHTS):  # encoder.json, where there is one, is read by whoever needs it
        if not (path / name).is_file():
            why = "there is no such file" if path.is_dir() else "there is no such folder"
            if any(path.glob("fold[0-9]*/" + CONFIG)):
                why = f"it holds folds; use one of them, or all as one model (birdnet-fs ensemble {path})"
            raise UserError(f"A run folder with {name} was expected at {path}; {why}.")
        refuse_link(path / name, path, "copy the file itself into the folder")
    if (path / WEIGHTS).stat().st_size > LARGEST_FILE:
        raise UserError(f"{path / WEIGHTS} must have {LARGEST_FILE:,} bytes or fewer; copy the run again.")
    experiment = read_experiment(path / CONFIG)
    classes = read_classes(path / CLASSES)
    check_class_names(classes, str(path / CLASSES))
    return Run(path=path, experiment=experiment, classes=classes)


def run_identity(path: Path) -> str:
    """Text that changes when anything does that affects the scores of a run: SHA-256 of weights, settings, classes."""
    names = (WEIGHTS, CONFIG, CLASSES, *(name for name in (ENCODER, CALIBRATION) if (path / name).is_file()))
    return " ".join(sha256(path / name) for name in names)


def save_run(
    path: Path | str,
    experiment: schema.Experiment,
    classes: Sequence[str],
    weights: "dict[str, np.ndarray]",
    *,
    write_extra: Callable[[Path], None] = lambda folder: None,
) -> Run:
    """Write a run folder, whole or not at all; a run in it is replaced in one step.

    What belongs to the weights of an earlier run (results, checkpoints, interrupted trainings) is removed with it.
    Other entries of the folder stay: exports, tables, notes, pretraining.

    Args:
        path: The folder; created when it does not exist.
        experiment: The resolved settings.
        classes: Class names in model order.
        weights: Arrays of any shape [...] by Keras variable path, from `model_weights`.
        write_extra: Writes further files into the new folder, which is still beside the old one. Default: none.

    Returns:
        The run.

    Raises:
        UserError: A class name cannot be stored, or a weight is not finite.
        OSError: The run cannot be written; an earlier one is as it was.
    """
    import numpy as np
    from safetensors.numpy import save

    path = Path(path)
    check_class_names(classes)
    bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
    if bad:
        raise UserError(f"Weights must be finite; {bad[0]!r} (and {len(bad) - 1} more) contains NaN or infinity.")
    with atomic_folder(path, stays=lambda name: name not in FILES_OF_A_RUN) as part:
        # safetensors writes the buffer without regard to strides, so that a permuted kernel must be copied first;
        # numpy's contiguous copy of a scalar has an axis, which is removed again; Python writes the file, because only
        # then is a full disk an OSError
        buffer = save({name: np.ascontiguousarray(v).reshape(v.shape) for name, v in weights.items()})
        (part / WEIGHTS).write_bytes(buffer)
        write_text(part / CLASSES, "".join(f"{name}\n" for name in classes))
        write_json(part / VERSIONS, library_versions())
        write_extra(part)
        write_json(part / CONFIG, to_dict(experiment))
    return Run(path=path, experiment=experiment, classes=tuple(classes))


def model_weights(model: "keras.Model") -> "dict[str, np.ndarray]":
    """The weights of a model as float32 arrays of any shape [...] by variable path, without random-number state."""
    import keras

    return {
        v.path: keras.ops.convert_to_numpy(v.value).astype("float32", copy=True)
        for v in model.weights
        if "seed_generator" not in v.path
    }


def load_weights(model: "keras.Model", file: Path | str) -> None:
    """Set the weights of a model from a `weights.safetensors`, in place.

    Args:
        model: The model.
        file: The file.

    Raises:
        UserError: The file is unreadable, a number is not finite, or names or shapes differ; the first difference is
            named.
    """
    wanted = {v.path: v for v in model.weights if "seed_generator" not in v.path}
    check_shapes(file, read_shapes(file), {name: tuple(variable.shape) for name, variable in wanted.items()})
    stored = read_weights(file)
    for name, variable in wanted.items():
        variable.assign(stored[name])


def _check_size(run: Run) -> None:
    """Refuse settings of a network that is much larger than the weights, before memory is taken for it."""
    experiment, n_classes, file = run.experiment, len(run.classes), run.path / WEIGHTS
    stored = read_shapes(file)
    n_numbers = sum(map(math.prod, stored.values()))
    on_encoder = bool(experiment.model.encoder)
    n_head = n_classes * (run.input_shape[-1] if on_encoder else networks.embedding_width(experiment.model.name))
    if n_head > n_numbers:
        raise UserError(
            f"The network and {file} do not fit: {run.path / CLASSES} names {n_classes:,} classes, whose head has "
            f"{n_head:,} weights, and the file has {n_numbers:,}; copy the run again."
        )
    # these settings change the size of a network, and making a large one takes seconds; a quantized one is made of the
    # numbers of a float one, which are not there without memory
    resized = bool(experiment.model.channels) or on_encoder or experiment.model.trainable_mel != "none"
    if resized or (n_numbers > LARGE and not experiment.model.quantized):
        import keras

        with keras.device("meta" if keras.backend.backend() == "torch" else "cpu"):  # torch: shapes without memory
            model = build_network(experiment, n_classes, run.input_shape, run.n_own_scores)
        wanted = {v.path: tuple(v.shape) for v in model.weights if "seed_generator" not in v.path}
        check_shapes(file, stored, wanted)


def library_versions() -> dict[str, Any]:
    """Versions of Python, this package and the libraries that affect results."""
    found: dict[str, Any] = {"birdnet_fs": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
