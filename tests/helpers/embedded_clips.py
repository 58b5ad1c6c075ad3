"""Synthetic embeddings of clips, for tests of heads on a foreign encoder."""

from typing import Any

import numpy as np

from birdnet_fs import schema
from birdnet_fs.core.settings import override
from birdnet_fs.training.encoder_heads import HeadData


def embedded_clips(
    n_classes: int = 3,
    n_groups: int = 5,
    *,
    width: int = 12,
    multi_label: bool = False,
    separation: float = 2.0,
    seed: int = 0,
) -> HeadData:
    """Clips of 1 to 3 windows, two of each group; embeddings are 0 or more, as behind a ReLU.

    Args:
        n_classes: Number of classes.
        n_groups: Groups of each class.
        width: Width of the embeddings.
        multi_label: Whether some clips have a second label, and some have none.
        separation: Distance of the classes, in deviations.
        seed: Seed of all draws.

    Returns:
        The data.
    """
    rng = np.random.default_rng(seed)
    n_clips = n_classes * n_groups * 2
    labels = np.arange(n_clips) % n_classes
    targets = np.eye(n_classes, dtype=np.float32)[labels]
    if multi_label:
        second = rng.integers(0, n_classes, n_clips)
        targets[np.arange(n_clips), second] = rng.random(n_clips) < 0.5
    centers = separation * rng.standard_normal((n_classes, width))
    clip = np.repeat(np.arange(n_clips), rng.integers(1, 4, n_clips))
    x = targets[clip] @ centers + rng.standard_normal((len(clip), width))
    groups = [f"{label} {i // (2 * n_classes)}" for i, label in enumerate(labels)]
    return HeadData(np.maximum(x, 0).astype(np.float32), clip, targets, groups)


def head_experiment(head: str, *, multi_label: bool = False, **settings: Any) -> schema.Experiment:
    """An experiment with a head on an encoder; `settings` are those of `schema.EncoderHead`."""
    given = [f"model.head={head}", *(f"model.encoder_head.{name}={value}" for name, value in settings.items())]
    plain = schema.Experiment(data=schema.Data(multi_label=multi_label))
    return override(plain, ["model.encoder=encoder.tflite", *given])


def clips_with_class_in_tokens(n_classes: int = 3, n_groups: int = 6, *, seed: int = 0) -> HeadData:
    """Tokens of which some are marked: these carry the class of the clip, and as many others each other class.

    So the mean of all tokens says nothing. One marked token says little, since its noise is large.

    Args:
        n_classes: Number of classes.
        n_groups: Groups of each class, of two clips each.
        seed: Seed of all draws.

    Returns:
        Clips of one window.
    """
    rng = np.random.default_rng(seed)
    width, n_carriers = 16, 12
    labels = np.arange(n_classes * n_groups * 2) % n_classes
    centers = 0.4 * rng.standard_normal((n_classes, width))
    tokens = rng.standard_normal((len(labels), n_carriers * n_classes, width)).astype(np.float32)
    for window, label in zip(tokens, labels, strict=True):
        carried = rng.permutation(np.repeat(np.arange(n_classes), n_carriers))
        window += centers[carried]
        window[:, 0] = np.where(carried == label, 3, -3)
    groups = [f"{label} {i // (2 * n_classes)}" for i, label in enumerate(labels)]
    targets = np.eye(n_classes, dtype=np.float32)[labels]
    return HeadData(tokens, np.arange(len(labels)), targets, groups)
