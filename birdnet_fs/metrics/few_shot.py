"""How well embeddings tell new classes apart: accuracy over many episodes, with an interval.

Methods (METHODS): "euclidean" and "cosine" go by the distance to a class' prototype, the mean of its support (Snell
et al. 2017, https://arxiv.org/abs/1703.05175); "simpleshot" takes the mean of the base classes off, brings every
embedding to length 1 and goes by the nearest prototype (Wang et al. 2019, "SimpleShot", CL2N,
https://arxiv.org/abs/1911.04623); "logistic_regression" is a linear probe on embeddings of length 1 (Tian et al. 2020,
https://arxiv.org/abs/2003.11539; multinomial, C = 1). A query is named from the support alone, never from the others.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from birdnet_fs.core.errors import UserError, nearest
from birdnet_fs.data.episodes import Episodes
from birdnet_fs.metrics.classification import PrecisionRecallF1, precision_recall_f1_of_confusion

BLOCK_BYTES = 2**25  # of embeddings or pairs that are gathered at a time
SMALLEST = 1e-6  # length below which an embedding has no direction
MAX_STEPS, SETTLED = 1000, 3e-6  # of the probe: it stops when nothing moves by more
NORMAL_95 = 1.959964  # standard errors on either side that hold 95 % of a normal distribution

Floats = NDArray[np.float32]
# support [n, n_way, n_shot, width], query [n, n_way * n_query, width] -> scores [n, n_way * n_query, n_way]
Method = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Result:
    """Accuracy of one method over episodes."""

    method: str
    recordings: str  # of the episodes: "across", "within" or "any"
    n_way: int
    n_shot: int
    n_query: int
    n_episodes: int
    accuracy: float  # mean over the episodes
    low: float  # 95 % interval of that mean; nan for one episode
    high: float
    names: tuple[str, ...]  # of all classes
    confusion: NDArray[np.int64]  # [n_classes, n_classes], queries of all episodes: rows true, columns named

    @property
    def precision_recall_f1(self) -> PrecisionRecallF1:
        """Precision, recall (the accuracy of a class) and F1 of each class, and their means."""
        return precision_recall_f1_of_confusion(self.confusion)


@dataclass(frozen=True)
class Scores:
    """How one method scores the queries of episodes: computed part by part, since all at once may not fit in memory."""

    method: str
    episodes: Episodes
    of: Callable[[slice], Floats]  # some of the episodes -> [n, n_way * n_query, n_way], the class named is the highest
    values_per_episode: int  # that are in memory at a time


def few_shot_accuracy(
    embeddings: ArrayLike, episodes: Episodes, method: str | Method = "euclidean", *, base_mean: ArrayLike | None = None
) -> Result:
    """Name the queries of every episode from its support by embeddings; see `by_embedding` and `summarize`."""
    return summarize(by_embedding(embeddings, episodes, method, base_mean=base_mean))


def by_embedding(
    embeddings: ArrayLike, episodes: Episodes, method: str | Method = "euclidean", *, base_mean: ArrayLike | None = None
) -> Scores:
    """Scores of the queries by embeddings.

    Args:
        embeddings: [n_items, width], of all items that the episodes were drawn from.
        episodes: What `episodes.draw` gave.
        method: A key of METHODS, or a function of support [n, n_way, n_shot, width] and query
            [n, n_way * n_query, width] to scores [n, n_way * n_query, n_way], as of a learned distance.
        base_mean: [width], the mean embedding of the base classes; "simpleshot" needs it.

    Raises:
        UserError: Unknown method, embeddings of another shape than the episodes need or not finite, or no base_mean.
    """
    x = _checked(embeddings, episodes)
    if isinstance(method, str) and method not in METHODS:
        raise UserError(f"method must be one of {', '.join(METHODS)}.{nearest(method, METHODS)} Received: {method!r}")
    if method == "simpleshot":
        x = _unit(x - _mean_of_base(base_mean, x.shape[1]))
    elif method == "logistic_regression":
        x = _unit(x)
    elif method == "euclidean":
        x = x - x.mean(axis=0)  # moves no distance, and float32 keeps more of it
    name, score = (method, METHODS[method]) if isinstance(method, str) else (method.__name__, method)
    _, n_way, n_query = episodes.query.shape

    def of(part: slice) -> Floats:
        query = x[episodes.query[part]].reshape(-1, n_way * n_query, x.shape[1])
        return score(x[episodes.support[part]], query)

    return Scores(name, episodes, of, n_way * (episodes.support.shape[2] + n_query) * x.shape[1])


def by_pairs(name: str, similarity: ArrayLike, episodes: Episodes) -> Scores:
    """Scores of the queries by how alike pairs of items are: a class counts by the support clip most like the query.

    Args:
        name: Of the method.
        similarity: [n_items, n_items], higher is more alike; row = query, column = support.
        episodes: What `episodes.draw` gave.

    Raises:
        UserError: `similarity` is not square, too small for the episodes, or not finite.
    """
    table = _checked(similarity, episodes, "alike")
    if table.shape[0] != table.shape[1]:
        raise UserError(f"alike must be [n_items, n_items]. Received: {table.shape}")
    n_episodes, n_way, n_query = episodes.query.shape
    queries = episodes.query.reshape(n_episodes, n_way * n_query)

    def of(part: slice) -> Floats:
        pairs = table[queries[part, :, None, None], episodes.support[part, None]]
        return pairs.max(axis=3)

    return Scores(name, episodes, of, n_way * n_query * n_way * episodes.support.shape[2])


def combine_standardized(first: Scores, second: Scores, weight: float = 1.0) -> Scores:
    """The sum of two methods' scores, each brought to mean 0 and deviation 1 over the classes of a query first.

    So a query is still named from the support alone. A method that scores all classes of a query alike adds nothing.

    Args:
        first: Scores of some episodes.
        second: Scores of the same episodes.
        weight: Of the second; 1 = as much as the first.
    """

    def of(part: slice) -> Floats:
        return _standard(first.of(part)) + np.float32(weight) * _standard(second.of(part))

    size = first.values_per_episode + second.values_per_episode
    return Scores(f"{first.method}+{second.method}", first.episodes, of, size)


def summarize(scores: Scores) -> Result:
    """The accuracy of the class with the highest score.

    The interval is that of the mean over episodes (mean +- 1.96 standard errors): how far another draw of as many
    episodes from these clips would lie. Other clips or other classes differ by far more where there are few of them.
    """
    n_episodes, n_way, n_query = scores.episodes.query.shape
    named = np.empty((n_episodes, n_way * n_query), np.int64)
    block = max(1, BLOCK_BYTES // (4 * scores.values_per_episode))
    for start in range(0, n_episodes, block):
        part = slice(start, start + block)
        named[part] = scores.of(part).argmax(axis=2)
    return _result(scores.method, scores.episodes, named.reshape(n_episodes, n_way, n_query))


def _checked(values: ArrayLike, episodes: Episodes, name: str = "embeddings") -> Floats:
    x = np.asarray(values, np.float32)
    n_items = 1 + max(int(episodes.support.max()), int(episodes.query.max()))
    if x.ndim != 2 or len(x) < n_items or not x.shape[1]:
        raise UserError(
            f"{name} must be [n_items, width] with a row for each of the {n_items} items or more that the episodes "
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


def _result(method: str, episodes: Episodes, named: NDArray[np.int64]) -> Result:
    n_episodes, n_way, n_query = named.shape
    right = (named == np.arange(n_way)[:, None]).mean(axis=(1, 2))
    error = float(right.std(ddof=1)) / np.sqrt(n_episodes) if n_episodes > 1 else float("nan")
    accuracy, n_classes = float(right.mean()), len(episodes.names)
    called = np.take_along_axis(episodes.classes[:, None, :], named, axis=2)
    cells = episodes.classes[:, :, None] * n_classes + called
    return Result(
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


def _unit(x: Floats) -> Floats:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), SMALLEST)


def _euclidean(support: Floats, query: Floats) -> Floats:
    """Minus the squared distance, less the query's own square, which all classes have in common."""
    prototypes = support.mean(axis=2)
    return 2 * query @ prototypes.swapaxes(1, 2) - np.square(prototypes).sum(axis=2)[:, None, :]


def _cosine(support: Floats, query: Floats) -> Floats:
    """The cosine times the query's length, which all classes have in common."""
    return query @ _unit(support.mean(axis=2)).swapaxes(1, 2)


def _logistic_regression(support: Floats, query: Floats) -> Floats:
    """What scikit-learn's LogisticRegression fits (n_way = 2 likewise multinomial, there C = 2), for all at once.

    By accelerated gradient steps. The optimal weights are sums of support clips, so only the clips' products with each
    other are needed. Means are taken off (the intercept makes up for it), after which the intercept and the weights
    hardly disturb each other.
    """
    n, n_way, n_shot, width = support.shape
    clips = support.reshape(n, n_way * n_shot, width)
    mean = clips.mean(axis=1, keepdims=True)
    clips = clips - mean
    products = clips @ clips.swapaxes(1, 2)
    truth = np.repeat(np.eye(n_way, dtype=np.float32), n_shot, axis=0)
    largest = np.abs(products).sum(axis=2).max(axis=1)[:, None, None]  # no less than the largest eigenvalue
    curvature = 1 + largest / 2  # of the loss at most, along any direction of the weights; 1 of the penalty at least
    momentum = (np.sqrt(curvature) - 1) / (np.sqrt(curvature) + 1)
    weights, bias = np.zeros((n, *truth.shape), np.float32), np.zeros((n, 1, n_way), np.float32)
    ahead, bias_ahead = weights, bias
    for _ in range(MAX_STEPS):
        wrong = softmax(products @ ahead + bias_ahead, axis=-1) - truth
        last, bias_last = weights, bias
        weights = ahead - (wrong + ahead) / curvature
        bias = bias_ahead - wrong.mean(axis=1, keepdims=True) * largest / curvature
        ahead, bias_ahead = weights + momentum * (weights - last), bias + momentum * (bias - bias_last)
        if np.abs(weights - last).max() < SETTLED and np.abs(bias - bias_last).max() < SETTLED:
            break
    return (query - mean) @ clips.swapaxes(1, 2) @ weights + bias


METHODS: dict[str, Method] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
    "simpleshot": _euclidean,
    "logistic_regression": _logistic_regression,
}
