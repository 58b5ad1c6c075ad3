"""A small consolidated table of synthetic recordings, with profiles that are drawn."""

from pathlib import Path

import numpy as np
import pyarrow
import soundfile
from pyarrow import parquet

SECONDS, RATE_HZ = 15.0, 32_000


def write(folder: Path, classes: int = 3, recordings: int = 3, seed: int = 0) -> tuple[Path, Path]:
    """Recordings of a tone for each class in noise; returns the table and the folder of the recordings."""
    rng = np.random.default_rng(seed)
    audio = folder / "audio"
    names = [f"bird{c}/{i}.wav" for c in range(classes) for i in range(recordings)]
    t = np.arange(round(SECONDS * RATE_HZ)) / RATE_HZ
    for name in names:
        (audio / name).parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(2 * np.pi * 1500 * (1 + int(name[4])) * t) * (np.sin(2 * np.pi * 1.5 * t) > 0)
        soundfile.write(audio / name, 0.2 * tone + 0.02 * rng.standard_normal(len(t)), RATE_HZ)
    n, n_windows = len(names), 101  # 15 s at 10 frames a second, windows of 50 frames
    table = {
        "source_name": names,
        "label": [name.partition("/")[0] for name in names],
        "cens_sample_rate": [10.0] * n,
        "matrix_profile_window": [50] * n,
        "duration_seconds": [SECONDS] * n,
        "motif_0": [5] * n,
        "motif_1": [80] * n,
        "pi": [rng.integers(0, n_windows, n_windows).tolist() for _ in names],
    }
    parquet.write_table(pyarrow.table(table), folder / "consolidated.parquet")
    return folder / "consolidated.parquet", audio
