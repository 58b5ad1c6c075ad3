"""Initial weights of a training: those of an earlier run, or published ones (models/pretrained)."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from birdnet_fs import models, schema
from birdnet_fs.core.errors import UserError
from birdnet_fs.models import pretrained
from birdnet_fs.models.quantization.convert import quantize
from birdnet_fs.runs.run import WEIGHTS, Run, build_network, load_run, read_weights


def load_initial_weights(path: Path, model: keras.Model, experiment: schema.Experiment, classes: Sequence[str]) -> str:
    """Set the initial weights of a network; those of the head only when the run has the same head and the same classes.

    A quantized network starts from a float one, its BatchNormalization folded in, or from a quantized run. UserErrors
    of `load_run` and of `models.pretrained` are passed on: there is no such run or file, it is damaged, it
    is of another network, or its tensors have other shapes.

    Args:
        path: A run folder, or a file that `models.pretrained.load` reads.
        model: The network of `experiment`, changed in place.
        experiment: The experiment to train.
        classes: Class names of the experiment in model order.

    Returns:
        A sentence that names the weights that were set.
    """
    run = load_run(path) if path.is_dir() else None
    if experiment.model.quantized and not (run and run.experiment.model.quantized):
        plain = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, quantized=False))
        network = build_network(plain, len(classes))
        sentence = load_initial_weights(path, network, plain, classes)
        for ours, theirs in zip(model.weights, quantize(network).weights, strict=True):
            if "seed_generator" not in ours.path:
                ours.assign(theirs)
        return sentence
    if run is None:
        head, why = pretrained.load(model, path, name=experiment.model.name), "the file has other classes"
    else:
        same = run.classes == tuple(classes) and run.experiment.model.head == experiment.model.head
        head = pretrained.set_weights(model, _of_run(run, experiment), source=str(path / WEIGHTS), head=same)
        why = f"the run has {len(run.classes)} classes and head {run.experiment.model.head}, "
        why += f"this experiment {len(classes)} and {experiment.model.head}, or their names differ"
    return f"Initial weights are from {path}, " + (
        "including the head." if head else f"but not those of the head ({why})."
    )


def _of_run(run: Run, experiment: schema.Experiment) -> dict[str, np.ndarray]:
    """The weights of a run of the same network; positions of a ViT are resized to the features of the experiment."""
    theirs, ours = (models.resolve(e.model.name) for e in (run.experiment, experiment))
    if theirs != ours:
        raise UserError(
            f"{run.path} is a run of {theirs}, whose weights do not fit {ours}; set model.name={theirs} or another "
            "model.weights."
        )
    if run.experiment.model.quantized and not experiment.model.quantized:
        raise UserError(
            f"{run.path} is a quantized run, whose BatchNormalization is folded in; set model.weights to its float run "
            f"({run.experiment.model.weights}), or set model.quantized=true."
        )
    stored = read_weights(run.path / WEIGHTS)
    adapt = getattr(models.family(ours), "adapt_weights", None)
    if adapt is not None:
        stored = adapt(ours.partition("/")[2], stored, run.frontend.shape, experiment.frontend.shape)
    return stored
