"""The loss of an episode: a few support clips of each of a few classes, and query clips to classify.

Source: Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning", https://arxiv.org/abs/1703.05175. The
prototype of a class is the mean embedding of its support, the logits decrease with the distance to the prototypes, and
the loss is the cross-entropy of the queries. The targets of mixed queries (Zhang et al. 2018, "mixup: Beyond Empirical
Risk Minimization", https://arxiv.org/abs/1710.09412) are the shares of their classes. After training, the prototypes of
the training classes become weights of the head, so that a finished run is an ordinary classifier of these classes.
"""

from collections.abc import Sequence

import keras
import numpy as np
import torch

from birdnet_fs import models, schema
from birdnet_fs.core.progress import track
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import Embedder
from birdnet_fs.runs.history import Weights
from birdnet_fs.training import losses
from birdnet_fs.training.objective import Objective


def episodic_objective(model: keras.Model, settings: schema.Episodes) -> Objective:
    """Build the objective of training in episodes; batches are those of `EpisodeOrder`.

    Args:
        model: A network with the head "prototypes". Its dropout acts on the embeddings.
        settings: Uses `n_way`, `n_shot` and `n_query`.

    Returns:
        The objective, monitored by `val_acc`.
    """
    head = model.get_layer("logits")
    size = settings.n_shot + settings.n_query

    def logits_of(embeddings: torch.Tensor, training: bool) -> torch.Tensor:
        by_class = embeddings.reshape(settings.n_way, size, -1)
        prototypes = by_class[:, : settings.n_shot].mean(1)
        queries = by_class[:, settings.n_shot :].flatten(0, 1)
        return head.compare(queries, prototypes, training=training)

    def classes_and_truth(targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The classes of the ways, one-hot [n_way, n_classes], and the targets of the queries over the ways."""
        by_class = targets.reshape(settings.n_way, size, -1)
        classes = by_class[:, 0]
        return classes, by_class[:, settings.n_shot :].flatten(0, 1)[:, classes.argmax(1)]

    def loss(embeddings: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        _, truth = classes_and_truth(targets)
        return losses.cross_entropy(logits_of(embeddings, training=True), truth, label_smoothing)

    def predictions(embeddings: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        classes, truth = classes_and_truth(targets)
        way = logits_of(embeddings, training=False).argmax(1)
        return classes[truth.argmax(1)] > 0, classes[way] > 0  # of a mixed query, the larger part

    return Objective(models.with_outputs(model, ["dropout"]), loss, monitor="val_acc", predictions=predictions)


def set_prototypes(
    model: keras.Model,
    weights: Weights,
    waveforms: Waveforms,
    spec: schema.FrontEnd,
    classes: Sequence[str],
    per_class: int | None = None,
) -> Weights:
    """Set the prototypes of the head to the mean embedding of the clips of each class.

    Args:
        model: The network, holding `weights`; it is not changed.
        weights: Weights by variable path.
        waveforms: The training clips.
        spec: Front-end of the network.
        classes: Names in the order of the prototypes.
        per_class: Largest number of windows of each class to use, evenly spread over its clips, 1 or more. Default:
            None, all.

    Returns:
        `weights` with the new prototypes [n_classes, width].
    """
    embedder = Embedder(model, spec)
    chosen: dict[int, int | None] = {}  # clip -> largest number of its windows
    labels = [clip.labels[0] for clip in waveforms.clips]
    for name in classes:
        own = [i for i, label in enumerate(labels) if label == name]
        clips = _spread(len(own), per_class)
        chosen |= {own[i]: per_class and per_class // len(clips) for i in clips}
    by_class: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    for i, n_windows in track(sorted(chosen.items()), "embedding training clips", unit="clip"):
        windows = embedder.rule.cut(waveforms[i])
        by_class[labels[i]].append(embedder.mean(windows[_spread(len(windows), n_windows)]))
    prototypes = np.stack([np.mean(own, axis=0) for own in by_class.values()]).astype(np.float32)
    return {**weights, model.get_layer("logits").prototypes.path: prototypes}


def _spread(n: int, most: int | None) -> list[int]:
    """At most `most` of the numbers below `n`, evenly spread; None: all."""
    return list(range(n)) if most is None or n <= most else ((np.arange(most) + 0.5) * n / most).astype(int).tolist()
