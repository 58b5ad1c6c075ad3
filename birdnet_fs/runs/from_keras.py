"""Store a Keras model that was fitted with `keras.Model.fit` as a run folder, for evaluate, analyze and export."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend import preset
from birdnet_fs.runs import run as run_folder
from birdnet_fs.runs.run import Run, build_network, model_weights

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

    What the model was trained on is not stored: where a run must not be scored on its own training recordings, this
    one counts as unknown.

    Args:
        model: Features [batch, n_frames, n_mels, n_channels] -> logits [batch, n_classes], as `build_model` returns it.
        path: The folder; made when absent. A run in it is replaced.
        classes: Class names in the order of the logits.
        frontend: The front-end that made the features, or the name of a preset.
        multi_label: Whether a clip may have any number of labels (sigmoid), else one (softmax). Default: False.
        channels: As given to `build_model`. Default: (), the variant's own.
        name: Name of the experiment. Default: "keras".

    Returns:
        The run.

    Raises:
        UserError: The model is not one of `build_model`, reads other features or has another number of classes; a
            class name cannot be stored, or a weight is not finite.
    """
    spec = preset(frontend) if isinstance(frontend, str) else frontend
    settings = replace(_model_settings(model), channels=tuple(channels))
    if model.output_shape[-1] != len(classes):
        raise UserError(f"classes must name the {model.output_shape[-1]} logits of the model. Received: {len(classes)}")
    wanted = (*spec.shape, spec.n_channels)
    if tuple(model.input_shape[1:]) != wanted:
        raise UserError(
            f"The front-end {spec.preset} gives features {list(wanted)} (n_frames, n_mels, n_channels), the model reads "
            f"{list(model.input_shape[1:])}; pass the front-end that the model was trained with."
        )
    data = schema.Data(multi_label=multi_label)
    experiment = schema.Experiment(name=name, data=data, frontend=spec, model=settings)
    theirs, ours = _shapes(build_network(experiment, len(classes))), _shapes(model)
    if theirs != ours:
        first = sorted(theirs.items() ^ ours.items())[0]
        raise UserError(
            f"The weights of the model are not those of {settings.name} as build_model builds it (first: {first[0]} "
            f"{list(first[1])}); pass the channels that it was built with, or build it with birdnet_fs.build_model."
        )
    return run_folder.save_run(path, experiment, classes, model_weights(model))


def _model_settings(model: "keras.Model") -> schema.Model:
    """The settings that `build_model` was given, read from the model."""
    name = next((n for n in models.names() if n.replace("/", "_") == model.name), "")
    layers: dict[str, Any] = {layer.name: layer for layer in model.layers}
    if not name or "logits" not in layers:
        raise UserError(
            "A model must be built with birdnet_fs.build_model to be saved as a run, which is rebuilt from code. "
            f"Received: a model named {model.name!r}."
        )
    head = layers["logits"]
    settings: dict[str, Any] = {}
    if "dropout" in layers:
        settings["dropout"] = layers["dropout"].rate
    if "frame_logits" in layers:
        settings["head"] = "sed"
    elif hasattr(head, "prototypes"):
        settings |= {
            "head": "prototypes",
            "distance": head.distance,
            "unknown": head.unknown,
            "logit_scale": head.scale,
        }
    elif hasattr(head, "scale"):
        settings |= {"head": "cosine", "logit_scale": head.scale}
    return schema.Model(name, **settings)


def _shapes(model: "keras.Model") -> dict[str, tuple[int, ...]]:
    return {v.path: tuple(v.shape) for v in model.weights if "seed_generator" not in v.path}
