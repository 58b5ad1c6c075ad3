"""How well embeddings tell new classes apart: accuracy over many episodes, with an interval.

Methods (METHODS): "euclidean" and "cosine" go by the distance to a class' prototype, the mean of its support (Snell
et al. 2017, https://arxiv.org/abs/1703.05175); "simpleshot" takes the mean of the base classes off, brings every
embedding to length 1 and goes by the nearest prototype (Wang et al. 2019, "SimpleShot", CL2N,
https://arxiv.org/abs/1911.04623); "logistic_regression" is a linear probe on embeddings of length 1 (Tian et al. 2020,
https://arxiv.org/abs/2003.11539; multinomial, C = 1). A query is named from the support alone, never from the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from birdnet_fs.batches.episodes import RECORDINGS, Episodes, draw
from birdnet_fs.plumbing.errors import UserError, nearest

BLOCK_BYTES = 2**25  # of embeddings that are gathered at a time
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
    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """Precision, recall (the accuracy of a class) and F1, each [n_classes]; nan where undefined."""
        hit, true, named = np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return {"precision": hit / named, "recall": hit / true, "f1": 2 * hit / (true + named)}

    @property
    def macro(self) -> dict[str, float]:
        """Means of `per_class` over the classes where it is defined."""
        return {name: float(np.nanmean(values)) for name, values in self.per_class.items()}


def evaluate(
    embeddings: ArrayLike, episodes: Episodes, method: str | Method = "euclidean", *, base_mean: ArrayLike | None = None
) -> Result:
    """Name the queries of every episode from its support.

    The interval is that of the mean over episodes (mean +- 1.96 standard errors): how far another draw of as many
    episodes from these clips would lie. Other clips or other classes differ by far more where there are few of them.

    Args:
        embeddings: [n_items, width], of all items that the episodes were drawn from.
        episodes: What `episodes.draw` gave.
        method: A key of METHODS, or a function of support [n, n_way, n_shot, width] and query
            [n, n_way * n_query, width] to scores [n, n_way * n_query, n_way], as of a learnt distance.
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
    name, scores = (method, METHODS[method]) if isinstance(method, str) else (method.__name__, method)
    n_episodes, n_way, n_query = episodes.query.shape
    named = np.empty((n_episodes, n_way * n_query), np.int64)
    block = max(1, BLOCK_BYTES // (n_way * (episodes.support.shape[2] + n_query) * x.shape[1] * 4))
    for start in range(0, n_episodes, block):
        part = slice(start, start + block)
        query = x[episodes.query[part]].reshape(-1, n_way * n_query, x.shape[1])
        named[part] = scores(x[episodes.support[part]], query).argmax(axis=2)
    return _result(name, episodes, named.reshape(n_episodes, n_way, n_query))


def evaluate_apart(
    embeddings: ArrayLike,
    labels: Sequence[str],
    groups: Sequence[str],
    methods: Sequence[str] = ("euclidean", "cosine"),
    *,
    n_way: int,
    n_shot: int,
    n_query: int,
    n_episodes: int,
    seed: int,
    base_mean: ArrayLike | None = None,
) -> tuple[list[Result], dict[str, str]]:
    """Every method across recordings and within them, on the same episodes each; arguments as `draw` and `evaluate`.

    Returns:
        Results, those across recordings first; and why there are none across or within, where that is so.

    Raises:
        UserError: As `evaluate`, or no episodes can be drawn either way.
    """
    results, reasons = [], {}
    for recordings in RECORDINGS[:2]:
        try:
            episodes = draw(
                labels,
                groups,
                n_way=n_way,
                n_shot=n_shot,
                n_query=n_query,
                n_episodes=n_episodes,
                seed=seed,
                recordings=recordings,
            )
        except UserError as error:
            reasons[recordings] = str(error)
            continue
        results += [evaluate(embeddings, episodes, method, base_mean=base_mean) for method in methods]
    if len(reasons) == 2:
        raise UserError(" ".join(reasons.values()))
    return results, reasons


def _checked(embeddings: ArrayLike, episodes: Episodes) -> Floats:
    x = np.asarray(embeddings, np.float32)
    n_items = 1 + max(int(episodes.support.max()), int(episodes.query.max()))
    if x.ndim != 2 or len(x) < n_items or not x.shape[1]:
        raise UserError(
            f"embeddings must be [n_items, width] with a row for each of the {n_items} items or more that the episodes "
            f"were drawn from. Received: {x.shape}"
        )
    if not np.isfinite(x).all():
        rows = np.flatnonzero(~np.isfinite(x).all(axis=1))
        raise UserError(f"embeddings must be finite; {len(rows)} rows are not, the first is row {rows[0]}.")
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
        wrong = _softmax(products @ ahead + bias_ahead) - truth
        last, bias_last = weights, bias
        weights = ahead - (wrong + ahead) / curvature
        bias = bias_ahead - wrong.mean(axis=1, keepdims=True) * largest / curvature
        ahead, bias_ahead = weights + momentum * (weights - last), bias + momentum * (bias - bias_last)
        if np.abs(weights - last).max() < SETTLED and np.abs(bias - bias_last).max() < SETTLED:
            break
    return (query - mean) @ clips.swapaxes(1, 2) @ weights + bias


def _softmax(x: Floats) -> Floats:
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


METHODS: dict[str, Method] = {
    "euclidean": _euclidean,
    "cosine": _cosine,
    "simpleshot": _euclidean,
    "logistic_regression": _logistic_regression,
}
