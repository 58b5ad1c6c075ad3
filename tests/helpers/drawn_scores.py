"""A table of scores drawn at random, with class names that a page must escape."""

import numpy as np

from birdnet_fs.data.score_table import ScoreRow, score_table

HOSTILE = ('<script>alert("x")</script>', "$\\frac{a}$ & <b>", "plain", "{{ 7 * 7 }}", "bad\u00a0\u200bx")


def drawn(n=200, classes=HOSTILE, seed=0, skill=2.0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(classes) - 1, n)  # the last class never occurs
    logits = rng.standard_normal((n, len(classes)))
    logits[np.arange(n), truth] += skill
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = [ScoreRow(f"r{i // 4}.wav", 5.0 * (i % 4), 5.0, "", (classes[t],)) for i, t in enumerate(truth)]
    return score_table(rows, scores, classes), truth
