"""Front-ends and waveforms for tests of ensembles."""

import dataclasses

import numpy as np

from birdnet_fs import schema

CLASSES = ("a", "b", "c")
SPEC = schema.FrontEnd(
    sample_rate_hz=8_000, segment_s=0.5, n_fft=256, win_length=256, hop_length=128, n_mels=16, fmax_hz=4_000.0
)
LOWER = dataclasses.replace(SPEC, sample_rate_hz=6_000, fmax_hz=3_000.0)
SHORTER = dataclasses.replace(SPEC, segment_s=0.2)


def noise(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, SPEC.n_samples)).astype(np.float32)


def softmax(logits):
    powers = np.exp(np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
