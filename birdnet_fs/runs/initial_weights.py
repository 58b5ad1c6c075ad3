"""What a training starts from: an earlier run, or published weights (models/weights)."""

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
    """Set the weights of a fresh network; the head's too when the run had the same head and the same classes.

    A quantized network starts from a float one, its BatchNormalization folded in, or from a quantized run.

    Args:
        path: A run folder, or a file of `models.weights.load`.
        model: The network of `experiment`, set in place.
        experiment: What is to be trained.
        classes: Its class names in model order.

    Returns:
        A sentence that says what was taken.

    Raises:
        UserError: No such run or file, damaged, of another network, or with tensors of another shape.
    """
    run = load_run(path) if path.is_dir() else None
    if experiment.model.quantized and not (run and run.experiment.model.quantized):
        plain = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, quantized=False))
        network = build_network(plain, len(classes))
        told = load_initial_weights(path, network, plain, classes)
        for ours, theirs in zip(model.weights, quantize(network).weights, strict=True):
            if "seed_generator" not in ours.path:
                ours.assign(theirs)
        return told
    if run is None:
        head, why = pretrained.load(model, path, name=experiment.model.name), "the file's classes are others"
    else:
        same = run.classes == tuple(classes) and run.experiment.model.head == experiment.model.head
        head = pretrained.fit(model, _of_run(run, experiment), source=str(path / WEIGHTS), head=same)
        why = f"{len(run.classes)} classes and head {run.experiment.model.head} there, "
        why += f"{len(classes)} and {experiment.model.head} here, or other names"
    return f"The weights start from {path}, " + ("the head's too." if head else f"but not the head's ({why}).")


def _of_run(run: Run, experiment: schema.Experiment) -> dict[str, np.ndarray]:
    """The weights of a run of the same network; a ViT's positions on the grid of the experiment's features."""
    theirs, ours = (models.resolve(e.model.name) for e in (run.experiment, experiment))
    if theirs != ours:
        raise UserError(f"{run.path} is a run of {theirs} and cannot start {ours}; set model.name={theirs}.")
    if run.experiment.model.quantized and not experiment.model.quantized:
        raise UserError(
            f"{run.path} is a quantized run, whose BatchNormalization is folded in; start from the float run before it "
            f"({run.experiment.model.weights}), or set model.quantized=true."
        )
    stored = read_weights(run.path / WEIGHTS)
    adapt = getattr(models.family(ours), "adapt_weights", None)
    if adapt is not None:
        stored = adapt(ours.partition("/")[2], stored, run.frontend.shape, experiment.frontend.shape)
    return stored
