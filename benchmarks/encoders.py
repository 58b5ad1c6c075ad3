"""Embeddings per second of a foreign encoder: `Encoder.embed` against its runtime alone, in turn, one process.

Run: python benchmarks/encoders.py ENCODER.tflite [repeats]. CPU time of one thread, best of the repeats; a ratio above
1 means that we are faster. The runtime alone runs the whole file, as programs do that read the tensor before the
output; ours is cut behind the embedding.
"""

import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from birdnet_fs.encoders.open import open_encoder

N = 32


def main(path: str, repeats: int = 5) -> None:
    """Print windows per second of both sides and the ratio."""
    encoder = open_encoder(path, threads=1)
    windows = (np.random.default_rng(0).normal(size=(N, encoder.n_samples)) * 0.05).astype(np.float32)
    alone = Interpreter(model_path=path, num_threads=1)
    given = alone.get_input_details()[0]["index"]
    batch = 16
    alone.resize_tensor_input(given, (batch, encoder.n_samples))
    alone.allocate_tensors()

    def runtime() -> None:
        for start in range(0, N, batch):
            alone.set_tensor(given, windows[start : start + batch])
            alone.invoke()

    best = [float("inf")] * 2
    for _ in range(repeats):
        for side, call in enumerate((lambda: encoder.embed(windows), runtime)):
            start = time.process_time()
            call()
            best[side] = min(best[side], time.process_time() - start)
    print(
        f"{Path(path).name}: ours {N / best[0]:.1f}/s, runtime alone {N / best[1]:.1f}/s, ratio {best[1] / best[0]:.2f}"
    )


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
