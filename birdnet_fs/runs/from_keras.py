"""Write a Keras model that was trained with `keras.Model.fit` as a run folder, for evaluate, analyze and export."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import preset
from birdnet_fs.models.heads.cosine import CosineLogits
from birdnet_fs.models.heads.prototypes import PrototypeLogits
from birdnet_fs.runs import run as run_folder
from birdnet_fs.runs.run import Run, build_network, model_weights
from birdnet_fs.schema import networks

if TYPE_CHECKING:
    import keras


def save_run(
    model: "keras.Model",
    path: Path | str,
    *,
    classes: Sequence[str],
    frontend: schema.FrontEnd | str,
    multi_label: bool = False,
    channels: Sequence[int] = (),
    name: str = "keras",
) -> Run:
    """Write a run folder from a model that `birdnet_fs.build_model` built.

    The run has no `partition.csv`, since the training recordings are unknown: `evaluate` reports it and needs labeled
    recordings, and the run cannot be a base run where training on held-out clips has to be excluded. UserErrors of
    `frontend.preset` and `run.save_run` are passed on: an unknown preset, a class name that cannot be stored, or a
    weight that is not finite.

    Args:
        model: Features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes], as `build_model` returns it.
        path: The folder; created when it does not exist. A run in it is replaced.
        classes: Class names in the order of the logits.
        frontend: The front-end of the features, or the name of a preset.
        multi_label: Whether a clip may have any number of labels (sigmoid), else it has one (softmax). Default: False.
        channels: The `channels` given to `build_model`. Default: (), those of the variant.
        name: Name of the experiment. Default: "keras".

    Returns:
        The run.

    Raises:
        UserError: The model is not one of `build_model`, has other features than the front-end, or has another number
            of classes.
    """
    spec = preset(frontend) if isinstance(frontend, str) else frontend
    found = replace(schema.Model(_family(model)), channels=tuple(channels))
    experiment = schema.Experiment(name=name, data=schema.Data(multi_label=multi_label), frontend=spec, model=found)
    return save_fitted(model, path, experiment, classes)


def save_fitted(
    model: "keras.Model",
    path: Path | str,
    experiment: schema.Experiment,
    classes: Sequence[str],
    write_extra: Callable[[Path], None] = lambda folder: None,
) -> Run:
    """Write a run folder from a model that was built for an experiment; a UserError of `run.save_run` is passed on.

    Args:
        model: Features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes], as `build_model` returns it.
        path: The folder; created when it does not exist. A run in it is replaced.
        experiment: The settings; the head, dropout and scale of the logits are those of the model.
        classes: Class names in the order of the logits.
        write_extra: Writes further files into the new folder. Default: none.

    Returns:
        The run.

    Raises:
        UserError: The model is not one of `build_model`, has other features than the front-end, or has another number
            of classes.
    """
    name, spec = _family(model), experiment.frontend
    if name != networks.resolve(experiment.model.name):
        raise UserError(f"The model must be model.name={experiment.model.name} of the experiment. Received: {name}")
    read = _settings_of_head(model)
    if read.get("logit_scale") == experiment.logit_scale:  # as chosen by the loss
        read.pop("logit_scale")
    experiment = replace(experiment, model=replace(experiment.model, **read))
    if model.output_shape[-1] != len(classes):
        raise UserError(
            f"classes must be the names of the {model.output_shape[-1]} outputs of the model. Received: {len(classes)} "
            "names"
        )
    wanted = (*spec.shape, spec.n_channels)
    if tuple(model.input_shape[1:]) != wanted:
        raise UserError(
            f"The features of the front-end {spec.preset!r} have shape {list(wanted)} (n_frames, n_mels, n_channels), "
            f"the input of the model {list(model.input_shape[1:])}; pass the front-end that it was trained with."
        )
    expected, found = _shapes(build_network(experiment, len(classes))), _shapes(model)
    if expected != found:
        key = min(name for name, _ in expected.items() ^ found.items())
        raise UserError(
            f"The weights of the model are not those of {name} from build_model: {key!r} has shape "
            f"{found.get(key, 'none')}, expected {expected.get(key, 'none')}; pass the channels that it was built "
            "with, or build it with birdnet_fs.build_model."
        )
    return run_folder.save_run(path, experiment, classes, model_weights(model), write_extra=write_extra)


def _family(model: "keras.Model") -> str:
    """Family and variant of a model of `build_model`."""
    name = next((n for n in models.names() if n.replace("/", "_") == model.name), "")
    if not name or "logits" not in {layer.name for layer in model.layers}:
        raise UserError(
            "Only a model of birdnet_fs.build_model can be saved as a run, because a run is rebuilt from code. "
            f"Received: a model named {model.name!r}"
        )
    return name


def _settings_of_head(model: "keras.Model") -> dict[str, Any]:
    """The settings of `build_model` that the layers of a model show."""
    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    head = layers["logits"]
    if len(model.outputs) != 1 or model.outputs[0] is not head.output:
        raise UserError(
            "The output of the model must be its layer 'logits', without an activation after it; save the model that "
            "birdnet_fs.build_model returned."
        )
    settings: dict[str, Any] = {"dropout": layers["dropout"].rate, "head": "linear"}
    if "frame_logits" in layers:
        settings["head"] = "sed"
    elif isinstance(head, PrototypeLogits):
        settings |= {"head": "prototypes", "distance": head.distance, "unknown": head.unknown}
    elif isinstance(head, CosineLogits):
        settings["head"] = "cosine"
    if isinstance(head, CosineLogits | PrototypeLogits):
        settings["logit_scale"] = head.scale
    return settings


def _shapes(model: "keras.Model") -> dict[str, tuple[int, ...]]:
    return {v.path: tuple(v.shape) for v in model.weights if "seed_generator" not in v.path}
