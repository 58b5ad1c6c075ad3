"""The triplet loss of Tile2Vec, with a gradient that is finite everywhere.

Source: Jean et al. 2019, "Tile2Vec: Unsupervised Representation Learning for Spatially Distributed Data", section 2.3,
https://arxiv.org/abs/1805.02855; margin and weight of the norms are those of the BirdCLEF 2022 solution that trained it
on bird motifs, https://github.com/dsgt-birdclef/birdclef-2022. The code of the paper has margin .1 and no norms.

The gradient of a Euclidean norm sqrt(sum(x ** 2)) is 0 / 0 at 0: one row whose anchor equals its neighbor, or whose
embedding is 0 (a silent clip), makes all weights NaN. The norm here has the gradient 0 at 0, and the same value.
"""

from typing import Any

from keras import ops

MARGIN, L2 = 50.0, 0.01  # of the BirdCLEF 2022 solution
PAPER_MARGIN, PAPER_L2 = 0.1, 0.0


def triplet_loss(anchor: Any, neighbor: Any, distant: Any, *, margin: float = MARGIN, l2: float = L2) -> Any:
    """Mean of relu(|anchor - neighbor| - |anchor - distant| + margin) + l2 (|anchor| + |neighbor| + |distant|).

    Args:
        anchor: Embeddings [n, width], a tensor of the running Keras backend; computed in float32.
        neighbor: Embeddings [n, width] that shall be close to the anchors.
        distant: Embeddings [n, width] that shall be far from the anchors.
        margin: Least difference of the distances to a distant segment and to a neighbor, 0 or more. Default: MARGIN.
        l2: Weight of the norms, 0 or more. Default: L2.

    Returns:
        A scalar of float32.
    """
    a, b, c = (ops.cast(x, "float32") for x in (anchor, neighbor, distant))
    loss = ops.relu(norm(a - b) - norm(a - c) + margin)
    if l2:
        loss = loss + l2 * (norm(a) + norm(b) + norm(c))
    return ops.mean(loss)


def all_triplets_loss(anchor: Any, neighbor: Any, recordings: Any, *, margin: float = MARGIN, l2: float = L2) -> Any:
    """The triplet loss with all rows of other recordings as distant segments, both their anchors and their neighbors.

    The mean is over the triplets with a loss above 0 (Hermans, Beyer, Leibe 2017, "In Defense of the Triplet Loss for
    Person Re-Identification", https://arxiv.org/abs/1703.07737, "batch all" without zeros), since most distant segments
    are soon far enough.

    Args:
        anchor: Embeddings [n, width], a tensor of the running Keras backend; computed in float32.
        neighbor: Embeddings [n, width].
        recordings: Integers [n], recording of each row.
        margin: Least difference of the distances to a distant segment and to a neighbor, 0 or more. Default: MARGIN.
        l2: Weight of the norms of anchors and neighbors, 0 or more. Default: L2.

    Returns:
        A scalar of float32; the norms alone where all rows are of one recording.
    """
    a, b = (ops.cast(x, "float32") for x in (anchor, neighbor))
    others = ops.concatenate([a, b])
    n, width = a.shape
    pairs = norm(ops.reshape(a[:, None] - others[None], (-1, width)))
    losses = ops.relu(norm(a - b)[:, None] - ops.reshape(pairs, (n, 2 * n)) + margin)
    apart = ops.cast(recordings[:, None] != ops.concatenate([recordings, recordings])[None], "float32")
    losses = losses * apart
    active = ops.sum(ops.cast(losses > 0, "float32"))
    loss = ops.sum(losses) / ops.maximum(active, 1.0)
    return loss + l2 * ops.mean(norm(a) + norm(b)) if l2 else loss


def norm(x: Any) -> Any:
    """Euclidean norm of each row, with the gradient 0 where a row is 0.

    Args:
        x: float32 [n, width], a tensor of the running Keras backend.

    Returns:
        float32 [n].
    """
    squares = ops.sum(x * x, axis=1)
    positive = squares > 0
    return ops.where(positive, ops.sqrt(ops.where(positive, squares, 1.0)), 0.0)
