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
        margin: By how much a distant embedding shall be farther than a neighbor, 0 or more. Default: MARGIN.
        l2: Weight of the norms, 0 or more. Default: L2.

    Returns:
        A scalar of float32.
    """
    a, b, c = (ops.cast(x, "float32") for x in (anchor, neighbor, distant))
    loss = ops.relu(norm(a - b) - norm(a - c) + margin)
    if l2:
        loss = loss + l2 * (norm(a) + norm(b) + norm(c))
    return ops.mean(loss)


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
