"""Crops of clips, and the activity that guides them."""

import numpy as np
import pytest

from birdnet_fs.batches.augment.crop import crop, cumulative_activity
from birdnet_fs.batches.augment.waveform import rms

RATE = 32_000


def cut(clip: np.ndarray, n_samples: int, rng: np.random.Generator, kind: str) -> np.ndarray:
    found = cumulative_activity(clip, RATE) if kind == "active" else None
    return crop(clip, n_samples, rng, activity=found, sample_rate_hz=RATE)


@pytest.mark.parametrize("kind", ["random", "active"])
def test_crops_have_their_length_and_come_from_the_clip(kind: str) -> None:
    rng = np.random.default_rng(0)
    clip = np.arange(3 * RATE, dtype=np.float32)
    for _ in range(20):
        segment = cut(clip, RATE, rng, kind)
        np.testing.assert_array_equal(np.diff(segment), 1)
        assert len(segment) == RATE
    short = cut(clip[1:101], RATE, rng, kind)
    assert len(short) == RATE
    np.testing.assert_array_equal(short[short > 0], clip[1:101])


def test_active_crops_prefer_the_song() -> None:
    rng = np.random.default_rng(0)
    clip = np.random.default_rng(1).normal(0, 0.001, 10 * RATE).astype(np.float32)
    song = 0.1 * np.sin(2 * np.pi * 4000 * np.arange(RATE) / RATE)
    clip[8 * RATE : 9 * RATE] += song.astype(np.float32)
    n_loud = {
        kind: sum(rms(cut(clip, 2 * RATE, rng, kind)) > 0.02 for _ in range(200)) for kind in ("random", "active")
    }
    assert n_loud["active"] > 1.5 * n_loud["random"]


def test_silent_clips_can_be_cropped() -> None:
    segment = cut(np.zeros(3 * RATE, np.float32), RATE, np.random.default_rng(0), "active")
    np.testing.assert_array_equal(segment, 0)


def test_cumulative_activity_sums_the_bins() -> None:
    clip = np.random.default_rng(0).normal(0, 0.1, round(2.57 * RATE))
    steep = np.array([clip[max(t, 0)] - 2 * clip[max(t - 1, 0)] + clip[max(t - 2, 0)] for t in range(25 * 3200)])
    energy = [np.mean(steep[i * 3200 : (i + 1) * 3200] ** 2) for i in range(25)]
    total = cumulative_activity(clip, RATE)
    assert total[0] == 0
    np.testing.assert_allclose(np.diff(total), np.log1p(energy / (np.median(energy) + 1e-12)), rtol=1e-9)
