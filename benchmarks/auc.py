"""Exact macro class-wise AUROC against scikit-learn, class by class: process CPU time, sides in turn, medians.

python benchmarks/auc.py
"""

import statistics
import time

import numpy as np
from sklearn.metrics import roc_auc_score

from birdnet_fs.metrics.classification import macro_auroc

N_CLASSES, PREVALENCE = 206, 0.01
SIZES = ((8_400, 5, "Kaggle size", 40), (100_000, 3, "large", 25))  # rows, rounds of scikit-learn, name, goal


def ours(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Our side: [n_classes]."""
    return macro_auroc(targets, scores).per_class


def theirs(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The peer: [n_classes]."""
    return np.array([roc_auc_score(targets[:, c], scores[:, c]) for c in range(targets.shape[1])])


def main() -> None:
    """Print time, ratio and largest difference at both sizes, with free and with tied scores."""
    rng = np.random.default_rng(0)
    for n, rounds, name, goal in SIZES:
        targets = (rng.random((n, N_CLASSES)) < PREVALENCE).astype(np.float32)
        targets[0], targets[1] = 1, 0
        free = (rng.standard_normal((n, N_CLASSES)) + targets).astype(np.float32)
        for kind, scores in (("free", free), ("tied", np.round(free, 1))):
            seconds: dict[str, list[float]] = {"ours": [], "sklearn": []}
            error = 0.0
            ours(targets[:100], scores[:100])
            for _ in range(rounds):
                start = time.process_time()
                reference = theirs(targets, scores)
                seconds["sklearn"].append(time.process_time() - start)
                for _ in range(3):
                    start = time.process_time()
                    found = ours(targets, scores)
                    seconds["ours"].append(time.process_time() - start)
                error = max(error, float(np.abs(found - reference).max()))
            mine, peer = statistics.median(seconds["ours"]), statistics.median(seconds["sklearn"])
            print(
                f"{name:12s} {n:7,d} x {N_CLASSES} {kind}: ours {mine * 1e3:8.1f} ms, sklearn {peer * 1e3:8.1f} ms, "
                f"ratio {peer / mine:5.1f} (goal {goal}), max error {error:.1e}"
            )


if __name__ == "__main__":
    main()
