"""Statistics of blocks of samples."""

import numpy as np

from birdnet_fs.audio.sample_statistics import SampleStatistics, mono_block


def test_mono_block_counts_and_zeroes_bad_samples() -> None:
    tally = SampleStatistics()
    block = np.array([[0.5], [np.nan], [np.inf], [-0.25]], np.float32)
    assert mono_block(block, tally).tolist() == [0.5, 0.0, 0.0, -0.25]
    assert (tally.n_samples, tally.n_bad, tally.low, tally.high) == (4, 2, -0.25, 0.5)


def test_antiphase_is_detected_over_blocks() -> None:
    tally = SampleStatistics()
    x = np.random.default_rng(0).normal(0, 0.1, (1000, 1)).astype(np.float32)
    for block in (x[:500], x[500:]):
        mono_block(np.hstack([block, -0.9 * block]), tally)
    assert tally.antiphase and tally.louder == 0
    tally.channel = 1
    assert np.array_equal(mono_block(np.hstack([x, -x]), tally), -x[:, 0])


def test_independent_channels_are_no_antiphase() -> None:
    tally = SampleStatistics()
    mono_block(np.random.default_rng(0).normal(0, 0.1, (1000, 2)).astype(np.float32), tally)
    assert not tally.antiphase
