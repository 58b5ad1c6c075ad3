"""Few-shot accuracy: how well embeddings separate new classes, over many episodes, with an interval.

A query is classified from the support of its episode (few_shot_methods.py), never from the other queries.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.data.episodes import EpisodeIndices
from birdnet_fs.metrics.classification import PrecisionRecallF1, precision_recall_f1_from_confusion
from birdnet_fs.metrics.few_shot_methods import METHODS, SMALLEST, Floats, Method, unit_length

BLOCK_BYTES = 2**25  # of embeddings or pairs that are in memory at a time
NORMAL_95 = 1.959964  # standard errors on either side that hold 95 % of a normal distribution


@dataclass(frozen=True)
class FewShotAccuracy:
    """Accuracy of one method over episodes.

    Attributes:
        method: Name of the method.
        recordings: Rule by which support and query were drawn: "across" recordings, "within" one, or "any".
        n_way: Classes in an episode.
        n_shot: Support items per class.
        n_query: Query items per class.
        n_episodes: Number of episodes.
        accuracy: Mean over the episodes, 0..1.
        low: Lower end of the 95 % interval of that mean; nan for one episode.
        high: Upper end likewise.
        names: Names of all classes.
        confusion: int64 [n_classes, n_classes], queries of all episodes; rows = true class, columns = predicted class.
    """

    method: str
    recordings: str
    n_way: int
    n_shot: int
    n_query: int
    n_episodes: int
    accuracy: float
    low: float
    high: float
    names: tuple[str, ...]
    confusion: NDArray[np.int64]

    @property
    def precision_recall_f1(self) -> PrecisionRecallF1:
        """Precision, recall (the accuracy of a class) and F1 of each class, and their means."""
        return precision_recall_f1_from_confusion(self.confusion)


@dataclass(frozen=True)
class EpisodeScores:
    """Scores of the queries of episodes, computed part by part, since all at once may not fit in memory.

    Attributes:
        method: Name of the method.
        episodes: The episodes.
        for_episodes: A slice of the episodes -> scores float32 [n, n_way * n_query, n_way], higher = more likely.
        values_per_episode: Numbers in memory for each episode of the slice.
    """

    method: str
    episodes: EpisodeIndices
    for_episodes: Callable[[slice], Floats]
    values_per_episode: int


def few_shot_accuracy(
    embeddings: ArrayLike,
    episodes: EpisodeIndices,
    method: str | Method = "euclidean",
    *,
    base_mean: ArrayLike | None = None,
) -> FewShotAccuracy:
    """Accuracy of a method that classifies the queries of every episode from its support.

    Args:
        embeddings: [n_items, width], embeddings of all items that the episodes were drawn from.
        episodes: Episodes, from `episodes.draw_episodes`.
        method: A key of METHODS, or a function (for example of a learned distance) of support [n, n_way, n_shot, width]
            and query [n, n_way * n_query, width] to scores [n, n_way * n_query, n_way]. Default: "euclidean".
        base_mean: [width], mean embedding of the base classes, which "simpleshot" needs. Default: None.

    Returns:
        The accuracy and its interval, as `summarize` returns them.
    """
    return summarize(by_embedding(embeddings, episodes, method, base_mean=base_mean))


def by_embedding(
    embeddings: ArrayLike,
    episodes: EpisodeIndices,
    method: str | Method = "euclidean",
    *,
    base_mean: ArrayLike | None = None,
) -> EpisodeScores:
    """Scores of the queries by embeddings.

    Args:
        embeddings: [n_items, width], of all items that the episodes were drawn from.
        episodes: The episodes, from `episodes.draw_episodes`.
        method: A key of METHODS, or a function (for example of a learned distance) of support
            [n, n_way, n_shot, width] and query [n, n_way * n_query, width] to scores [n, n_way * n_query, n_way].
            Default: "euclidean".
        base_mean: [width], the mean embedding of the base classes, which "simpleshot" needs. Default: None.

    Returns:
        The scores, computed on demand.

    Raises:
        UserError: The method is unknown, the embeddings do not have the shape that the episodes need or are not finite,
            or base_mean is missing.
    """
    x = _checked(embeddings, episodes)
    if isinstance(method, str) and method not in METHODS:
        raise UserError(f"method must be one of {', '.join(METHODS)}.{nearest(method, METHODS)} Received: {method!r}")
    if method == "simpleshot":
        x = unit_length(x - _mean_of_base(base_mean, x.shape[1]))
    elif method == "logistic_regression":
        x = unit_length(x)
    elif method == "euclidean":
        x = x - x.mean(axis=0)  # changes no distance, and loses fewer digits in float32
    name, score = (method, METHODS[method]) if isinstance(method, str) else (method.__name__, method)
    _, n_way, n_query = episodes.query.shape

    def for_episodes(part: slice) -> Floats:
        query = x[episodes.query[part]].reshape(-1, n_way * n_query, x.shape[1])
        return score(x[episodes.support[part]], query)

    return EpisodeScores(name, episodes, for_episodes, n_way * (episodes.support.shape[2] + n_query) * x.shape[1])


def by_pairs(name: str, similarity: ArrayLike, episodes: EpisodeIndices) -> EpisodeScores:
    """Scores of the queries by similarities of pairs: the score of a class is that of its most similar support item.

    Args:
        name: Name of the method.
        similarity: [n_items, n_items], higher = more similar; row = query, column = support.
        episodes: The episodes, from `episodes.draw_episodes`.

    Returns:
        The scores, computed on demand.

    Raises:
        UserError: `similarity` is not square, too small for the episodes, or not finite.
    """
    table = _checked(similarity, episodes, "similarity")
    if table.shape[0] != table.shape[1]:
        raise UserError(f"similarity must be [n_items, n_items]. Received: {table.shape}")
    n_episodes, n_way, n_query = episodes.query.shape
    queries = episodes.query.reshape(n_episodes, n_way * n_query)

    def for_episodes(part: slice) -> Floats:
        pairs = table[queries[part, :, None, None], episodes.support[part, None]]
        return pairs.max(axis=3)

    return EpisodeScores(name, episodes, for_episodes, n_way * n_query * n_way * episodes.support.shape[2])


def combine_standardized(first: EpisodeScores, second: EpisodeScores, weight: float = 1.0) -> EpisodeScores:
    """The sum of two methods' scores, each standardized to mean 0 and deviation 1 over the classes of a query.

    A query is thus still classified from the support alone. A method that gives all classes of a query the same score
    adds nothing.

    Args:
        first: Scores of some episodes.
        second: Scores of the same episodes.
        weight: Weight of the second; the first has 1. Default: 1.

    Returns:
        The scores, computed on demand.
    """

    def for_episodes(part: slice) -> Floats:
        return _standard(first.for_episodes(part)) + np.float32(weight) * _standard(second.for_episodes(part))

    size = first.values_per_episode + second.values_per_episode
    return EpisodeScores(f"{first.method}+{second.method}", first.episodes, for_episodes, size)


def summarize(scores: EpisodeScores) -> FewShotAccuracy:
    """The accuracy of predicting the class with the highest score.

    The interval is that of the mean over episodes (mean ± 1.96 standard errors), for another draw of as many episodes
    from the same items. Other recordings or classes vary by far more where there are few of them.
    """
    n_episodes, n_way, n_query = scores.episodes.query.shape
    predicted = np.empty((n_episodes, n_way * n_query), np.int64)
    block = max(1, BLOCK_BYTES // (4 * scores.values_per_episode))
    for start in range(0, n_episodes, block):
        part = slice(start, start + block)
        predicted[part] = scores.for_episodes(part).argmax(axis=2)
    return _result(scores.method, scores.episodes, predicted.reshape(n_episodes, n_way, n_query))


def _checked(values: ArrayLike, episodes: EpisodeIndices, name: str = "embeddings") -> Floats:
    x = np.asarray(values, np.float32)
    n_items = 1 + max(int(episodes.support.max()), int(episodes.query.max()))
    if x.ndim != 2 or len(x) < n_items or not x.shape[1]:
        raise UserError(
            f"{name} must be [n_items, width] with one row for each of the {n_items} items or more that the episodes "
            f"were drawn from. Received: {x.shape}"
        )
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        rows = np.flatnonzero(~finite)
        raise UserError(f"{name} must be finite; {len(rows)} rows are not, the first is row {rows[0]}.")
    return x


def _mean_of_base(base_mean: ArrayLike | None, width: int) -> Floats:
    if base_mean is None:
        raise UserError("simpleshot needs base_mean, the mean embedding of the base classes; received none.")
    mean = np.asarray(base_mean, np.float32)
    if mean.shape != (width,):
        raise UserError(f"base_mean must be as wide as the embeddings, ({width},). Received: {mean.shape}")
    return mean


def _result(method: str, episodes: EpisodeIndices, predicted: NDArray[np.int64]) -> FewShotAccuracy:
    n_episodes, n_way, n_query = predicted.shape
    correct = (predicted == np.arange(n_way)[:, None]).mean(axis=(1, 2))
    error = float(correct.std(ddof=1)) / np.sqrt(n_episodes) if n_episodes > 1 else float("nan")
    accuracy, n_classes = float(correct.mean()), len(episodes.names)
    classes = np.take_along_axis(episodes.classes[:, None, :], predicted, axis=2)
    cells = episodes.classes[:, :, None] * n_classes + classes
    return FewShotAccuracy(
        method=method,
        recordings=episodes.recordings,
        n_way=n_way,
        n_shot=episodes.support.shape[2],
        n_query=n_query,
        n_episodes=n_episodes,
        accuracy=accuracy,
        low=accuracy - NORMAL_95 * error,
        high=accuracy + NORMAL_95 * error,
        names=episodes.names,
        confusion=np.bincount(cells.ravel(), minlength=n_classes**2).reshape(n_classes, n_classes),
    )


def _standard(x: Floats) -> Floats:
    x = x - x.mean(axis=2, keepdims=True)
    return x / np.maximum(x.std(axis=2, keepdims=True), SMALLEST)
