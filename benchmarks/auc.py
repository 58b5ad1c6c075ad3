"""Exact macro class-wise AUROC against scikit-learn, class by class: process CPU time, sides in turn, medians.

python benchmarks/auc.py
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
from sklearn.metrics import roc_auc_score

from birdnet_fs.metrics.auroc import macro_auroc

N_CLASSES, PREVALENCE = 206, 0.01
SIZES = ((8_400, 5, 40), (100_000, 2, 25))  # rows, rounds, least ratio to reach
N_OURS_PER_ROUND = 5


def ours(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUROC of each class by `macro_auroc`, [n, n_classes] twice -> [n_classes]."""
    return macro_auroc(targets, scores).per_class


def theirs(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """AUROC of each class by scikit-learn, [n, n_classes] twice -> [n_classes]."""
    return np.array([roc_auc_score(targets[:, c], scores[:, c]) for c in range(targets.shape[1])])


def cpu_time(fn: Callable[..., np.ndarray], *args: np.ndarray) -> tuple[float, np.ndarray]:
    """CPU time of one call in seconds, and what it returned."""
    start = time.process_time()
    found = fn(*args)
    return time.process_time() - start, found


def main() -> None:
    """Print time, ratio and largest difference of both sizes with distinct and with tied scores, then both ratios."""
    rng = np.random.default_rng(0)
    summary = []
    for n, n_rounds, goal in SIZES:
        targets = (rng.random((n, N_CLASSES)) < PREVALENCE).astype(np.float32)
        targets[0], targets[1] = 1, 0
        distinct = (rng.standard_normal((n, N_CLASSES)) + targets).astype(np.float32)
        ratios = []
        for kind, scores in (("distinct", distinct), ("tied", np.round(distinct, 1))):
            ours_s, theirs_s, error = [], [], 0.0
            ours(targets, scores)  # the first call also pays for fresh memory
            for _ in range(n_rounds):
                seconds, reference = cpu_time(theirs, targets, scores)
                theirs_s.append(seconds)
                for _ in range(N_OURS_PER_ROUND):
                    seconds, found = cpu_time(ours, targets, scores)
                    ours_s.append(seconds)
                error = max(error, float(np.abs(found - reference).max()))
            mine, peer = statistics.median(ours_s), statistics.median(theirs_s)
            ratios.append(peer / mine)
            print(
                f"{n:7,d} x {N_CLASSES} {kind:8s}: ours {mine * 1e3:6.1f} ms, scikit-learn {peer * 1e3:7.1f} ms, "
                f"ratio {ratios[-1]:.1f}, largest difference {error:.1e}"
            )
        summary.append(f"{n:,d} x {N_CLASSES}: {ratios[0]:.1f}x distinct, {ratios[1]:.1f}x tied (goal {goal}x)")
    print("; ".join(summary))


if __name__ == "__main__":
    main()
