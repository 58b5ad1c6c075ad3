"""Speed of the similarity of clips to reference motifs: all joins at once, against one join per motif.

Run: python benchmarks/reference_motifs.py. 64 reference motifs of 30 frames and clips of 50 frames (5 s at 10 frames a
second) of 12 values, windows of 20 frames. Both sides in turn in one process, best of the repeats. The loop is that of
the competition notes: SiMPle-fast of a clip with each motif (benchmarks/motifs.py), then minimum, median and maximum.
"""

import numpy as np
from motifs import best_ms, simple_fast

from birdnet_fs.motifs.classifier.reference_motifs import WINDOW, join_statistics
from birdnet_fs.motifs.matrix_profile import ab_join

N_MOTIFS, N_CLIPS, WIDTH = 64, 20, 12


def loop(clip: np.ndarray, motifs: list[np.ndarray]) -> np.ndarray:
    """One join per motif."""
    profiles = [simple_fast(clip, motif, WINDOW)[0] for motif in motifs]
    return np.ravel([[p.min(), np.median(p), p.max()] for p in profiles])


def main() -> None:
    """Print times per clip and the ratios."""
    rng = np.random.default_rng(0)
    clips, motifs = ([rng.random((n, WIDTH)) for _ in range(count)] for n, count in ((50, N_CLIPS), (30, N_MOTIFS)))
    np.testing.assert_allclose(join_statistics(clips[:1], motifs)[0], loop(clips[0], motifs), rtol=1e-5)
    ours = best_ms(lambda: join_statistics(clips, motifs), 10) / N_CLIPS
    slow = best_ms(lambda: loop(clips[0], motifs), 5)
    joins = best_ms(lambda: [ab_join(clips[0], motif, WINDOW) for motif in motifs], 5)
    print(f"all at once         {ours:8.3f} ms a clip")
    print(f"SiMPle-fast, loop   {slow:8.3f} ms a clip, ratio {slow / ours:.0f}")
    print(f"ab_join, loop       {joins:8.3f} ms a clip, ratio {joins / ours:.0f}")


if __name__ == "__main__":
    main()
