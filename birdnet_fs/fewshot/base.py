"""Base of new classes: a run, or the embeddings of a foreign encoder, without any class of its own.

A head on an encoder other than "prototypes" cannot compare embeddings with prototypes; its transform of the embeddings
can. So the network of such a run is built with the head "prototypes" here, on the transform of the run.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.progress import say
from birdnet_fs.core.text import escaped
from birdnet_fs.data.manifest import Clip
from birdnet_fs.encoders.reference import RunEncoders, write_encoders
from birdnet_fs.inference.encode_clips import encode_clips
from birdnet_fs.inference.encoder_features import features_of_settings, references
from birdnet_fs.inference.encoder_settings import with_encoder
from birdnet_fs.runs.resolve import resolved
from birdnet_fs.runs.run import WEIGHTS, Run, build_network, model_weights, read_weights, save_run

BASE_NAME = "encoder"
PLACEHOLDER = "no class"  # a run has a class or more


def comparing_model(run: Run) -> keras.Model:
    """The network of a run, with a head that can hold prototypes where the run is on an encoder.

    Args:
        run: The run.

    Returns:
        A Keras model: features [batch, *input_shape] -> logits; its layer "embedding" is compared.
    """
    settings = run.experiment.model
    if not settings.encoder or settings.head == "prototypes":
        return run.build_model()
    experiment = dataclasses.replace(run.experiment, model=with_prototypes(settings))
    model = build_network(experiment, max(1, len(run.classes)), embedding_shape(run))
    stored = read_weights(run.path / WEIGHTS)
    for variable in model.get_layer("embedding").weights:
        if variable.path in stored:
            variable.assign(stored[variable.path])
    return model


def embedding_shape(run: Run) -> tuple[int, ...]:
    """Shape of the embeddings of a run on encoders, without their own scores; of a network its input."""
    shape = run.input_shape
    return (*shape[:-1], shape[-1] - run.n_own_scores)


def with_prototypes(model: schema.Model) -> schema.Model:
    """The settings of a head on an encoder with the head "prototypes", compared by cosine, without own scores."""
    head = dataclasses.replace(model.encoder_head, own_scores="none")
    return dataclasses.replace(model, head="prototypes", distance="cosine", logit_scale=0.0, encoder_head=head)


def has_classes(run: Run) -> bool:
    """Whether a run was trained on classes, other than the base that `write_encoder_base` writes."""
    return run.classes != (PLACEHOLDER,)


def write_encoder_base(model: schema.Model, clips: Sequence[Clip], folder: Path) -> Run:
    """Write the base run of a foreign encoder, into which classes can be enrolled.

    UserErrors of `features_of_settings` and `encode_clips` are passed on: the encoder, its card, or clips of which none
    can be read.

    Args:
        model: Settings with `encoder`, and `encoder_card` where it is needed.
        clips: Clips whose embeddings decide between the transforms: the square root where none is negative.
        folder: Folder of the run, empty; temporary.

    Returns:
        The run, with one class that stands for none.
    """
    experiment = with_encoder(schema.Experiment(name=BASE_NAME, model=with_prototypes(model)))
    features = features_of_settings(experiment.model)
    for facts in features.facts:
        if facts.license:
            say(f"encoder {facts.name}: {escaped(facts.path)}, license {facts.license}")
    if experiment.model.encoder_head.transform == "auto":
        lowest = encode_clips(features, clips).features.min() if clips else -1.0
        head = dataclasses.replace(experiment.model.encoder_head, transform="sqrt" if lowest >= 0 else "none")
        experiment = dataclasses.replace(experiment, model=dataclasses.replace(experiment.model, encoder_head=head))
    experiment = dataclasses.replace(resolved(experiment), data=schema.Data())
    weights = model_weights(build_network(experiment, 1, features.input_shape))
    zeros = {name: np.zeros_like(value) for name, value in weights.items() if name.startswith("logits/")}

    def others(path: Path) -> None:
        write_encoders(path, RunEncoders(tuple(references(features)), features.input_shape))

    return save_run(folder, experiment, (PLACEHOLDER,), weights | zeros, write_extra=others)
