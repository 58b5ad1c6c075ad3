"""Random targets and scores of the shapes that metrics meet: crowded, tied, huge, tiny, with signed zeros."""

import numpy as np


def drawn(n, n_classes, prevalence, kind, seed, dtype=np.float32):
    rng = np.random.default_rng(seed)
    targets = (rng.random((n, n_classes)) < prevalence).astype(np.float32)
    targets[0], targets[1] = 1, 0
    logits = rng.standard_normal((n, n_classes)) * 3 + targets - 2
    scores = {
        "logits": logits,
        "probabilities": 1 / (1 + np.exp(-logits)),
        "ties": np.round(logits),
        "crowded": np.where(rng.random(logits.shape) < 0.9, 0.0, 1 / (1 + np.exp(-4 * logits))),
        "signed_zero": np.where(rng.random(logits.shape) < 0.5, -0.0, np.maximum(logits, 0)),
        "huge": logits * 1e37,
        "tiny": logits * 1e-44,
        "outlier": np.where(rng.random(logits.shape) < 1e-3, 1e30, logits),
    }[kind].astype(dtype)
    return targets, scores
