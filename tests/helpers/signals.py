"""Synthetic segments for the tests of the front-ends."""

import numpy as np

from birdnet_fs.schema import FrontEnd

SPECTRUM = FrontEnd(  # no filter bank
    n_fft=4096,
    win_length=4096,
    hop_length=2474,
    pad_mode="reflect",
    bands="spectrum",
    n_mels=2049,
    fmin_hz=0.0,
    fmax_hz=16_000.0,
    compression="none",
    top_db=0.0,  # band energies in extra precision
)
TFLITE_PRESETS = (  # resize, reflect padding, zeros around, PCEN
    "birdnet_3s_48k",
    "birdclef2025",
    "panns",
    "animal_spot",
    "fewshot_pcen",
)


def sounds(spec, n, n_samples=0):
    """Chirps over pink-like noise, float32 [n, n_samples]; different for every row."""
    rng = np.random.default_rng(5)
    n_samples = n_samples or spec.n_samples
    t = np.arange(n_samples) / spec.sample_rate_hz
    rows = []
    for _ in range(n):
        noise = np.convolve(rng.standard_normal(n_samples), np.exp(-np.arange(64) / 12), "same")
        tone = np.sin(2 * np.pi * rng.uniform(1500, 6000) * t * (1 + 0.1 * t))
        rows.append(0.003 * noise + 0.3 * tone * (np.sin(2 * np.pi * 2 * t) > 0.3))
    return np.stack(rows).astype(np.float32)


def short_clips(spec):
    """Clips of 3 samples to half a segment with zeros behind, float32 [4, n_samples]."""
    rows = np.zeros((4, spec.n_samples), np.float32)
    for row, n_samples in zip(rows, (3, 3_000, 11_025, spec.n_samples // 2), strict=True):
        row[:n_samples] = sounds(spec, 1, max(n_samples, 100))[0][:n_samples] + np.float32(0.01)
    return rows


def hard_cases(spec):
    """Silence, a constant, clipping and one impulse: {name: float32 [n_samples]}."""
    n = spec.n_samples
    impulse = np.zeros(n, np.float32)
    impulse[n // 3] = 1.0
    clipped = np.clip(30 * sounds(spec, 1)[0], -1, 1)
    return {
        "silence": np.zeros(n, np.float32),
        "constant": np.full(n, 0.25, np.float32),
        "clipping": clipped,
        "impulse": impulse,
    }
