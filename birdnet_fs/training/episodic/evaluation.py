"""Accuracy and loss of a network over episodes of classes that it is not trained on."""

from collections.abc import Callable

import keras
import numpy as np
import torch
from scipy.special import logsumexp

from birdnet_fs import schema
from birdnet_fs.core.random_streams import Stream
from birdnet_fs.data.episodes import EpisodeIndices
from birdnet_fs.data.waveforms import Waveforms
from birdnet_fs.inference.embed import Embedder
from birdnet_fs.metrics.few_shot import FewShotAccuracy, few_shot_accuracy
from birdnet_fs.metrics.few_shot_methods import METHODS, Method
from birdnet_fs.runs.history import accuracy_columns
from birdnet_fs.training.episodic.items import draw_items


def head_method(model: keras.Model) -> str | Method:
    """Return the method of `few_shot_accuracy` that compares embeddings like the head of a model.

    Args:
        model: A network with the head "prototypes".

    Returns:
        The name of a method, or for a learned distance a function of support [n_episodes, n_way, n_shot, width] and
        queries [n_episodes, n_way x n_query, width] that returns scores [n_episodes, n_way x n_query, n_way].
    """
    head = model.get_layer("logits")
    if head.distance != "learned":
        return head.distance
    device = model.trainable_variables[0].value.device

    def learned(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            prototypes = torch.from_numpy(support).to(device).mean(2)
            pairs = zip(torch.from_numpy(query).to(device), prototypes, strict=True)
            return np.stack([head.compare(x, own).cpu().numpy() for x, own in pairs])

    return learned


def episode_result(
    model: keras.Model, embeddings: np.ndarray, episodes: EpisodeIndices
) -> tuple[FewShotAccuracy, float]:
    """Compute the accuracy by the distance of the head, and the mean cross-entropy of the queries.

    Args:
        model: A network with the head "prototypes" and its center at 0.
        embeddings: float32 [n_items, width].
        episodes: Episodes as indices of these items.

    Returns:
        The accuracy over the episodes, and the cross-entropy.
    """
    head, method = model.get_layer("logits"), head_method(model)
    total = [0.0, 0]

    def method_with_loss(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        scores = (METHODS[method] if isinstance(method, str) else method)(support, query)
        logits = scores  # softmax does not change with a constant added to all classes of a query
        if head.distance != "learned":
            logits = head.scale * scores
        if head.distance == "cosine":
            logits = logits / np.linalg.norm(query, axis=-1, keepdims=True)
        n_way = logits.shape[2]
        truth = np.repeat(np.arange(n_way), logits.shape[1] // n_way)[None, :, None]
        log_p = logits - logsumexp(logits, axis=2, keepdims=True)
        total[0] -= float(np.take_along_axis(log_p, truth, axis=2).sum(dtype=np.float64))
        total[1] += log_p[..., 0].size
        return scores

    method_with_loss.__name__ = head.distance
    if head.distance == "euclidean":
        embeddings = embeddings - embeddings.mean(axis=0)  # distances stay the same and float32 rounds less
    result = few_shot_accuracy(embeddings, episodes, method_with_loss)
    return result, total[0] / total[1]


def episodic_validation(
    model: keras.Model, waveforms: Waveforms, spec: schema.FrontEnd, settings: schema.Episodes, seed: int
) -> Callable[[], dict[str, float]]:
    """Build the function that validates a model after each epoch.

    Args:
        model: A network with the head "prototypes".
        waveforms: The validation clips.
        spec: Front-end of the network.
        settings: Uses `n_val` and the size of an episode; the episodes are the same in every epoch.
        seed: Seed of the experiment.

    Returns:
        A function that returns the columns `val_...` of history.csv for the present weights, or raises
        FloatingPointError when an embedding is not finite.
    """
    items, episodes = draw_items(waveforms.clips, settings, settings.n_val, seed, Stream.VALIDATION_EPISODES)
    embedder = Embedder(model, spec)

    def validate() -> dict[str, float]:
        embeddings = embedder.items(waveforms, items)
        if not np.isfinite(embeddings).all():
            raise FloatingPointError("An embedding of a validation clip")
        result, loss = episode_result(model, embeddings, episodes)
        report = result.precision_recall_f1
        return {
            "val_loss": loss,
            "val_acc": result.accuracy,
            **{f"val_{name}": value for name, value in report.macro.items()},
            **accuracy_columns("val", result.names, report.recall.tolist()),
        }

    return validate


def held_out_accuracies(
    model: keras.Model, waveforms: Waveforms, spec: schema.FrontEnd, settings: schema.Episodes, seed: int
) -> tuple[list[FewShotAccuracy], float]:
    """Compute the accuracy over the `n_test` test episodes, by the distance of the head and by other methods.

    Args:
        model: A trained network with the head "prototypes".
        waveforms: The held-out clips.
        spec: Front-end of the network.
        settings: Uses `n_test` and the size of an episode.
        seed: Seed of the experiment.

    Returns:
        The results, that of the head first, and the cross-entropy of the head.
    """
    items, episodes = draw_items(waveforms.clips, settings, settings.n_test, seed, Stream.TEST_EPISODES)
    embeddings = Embedder(model, spec).items(waveforms, items)
    base_mean = keras.ops.convert_to_numpy(model.get_layer("logits").prototypes).mean(0)
    own, loss = episode_result(model, embeddings, episodes)
    names = [name for name in ("euclidean", "cosine", "simpleshot", "logistic_regression") if name != own.method]
    return [own, *(few_shot_accuracy(embeddings, episodes, name, base_mean=base_mean) for name in names)], loss
