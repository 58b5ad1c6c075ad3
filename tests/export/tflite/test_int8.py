"""Converter settings for 8-bit networks; whole networks: test_convert.py."""

from pathlib import Path

import numpy as np
from installed import need

from birdnet_fs.export.tflite.int8 import (
    MAX_CALIBRATION_SEGMENTS,
    dynamic_range_settings,
    full_integer_settings,
)

need("tensorflow")


def test_full_integer_without_calibration_keeps_the_learned_ranges() -> None:
    assert full_integer_settings(None, 3) == dynamic_range_settings()


def test_calibration_segments_are_copied_to_channels_and_limited_in_number(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(2 * MAX_CALIBRATION_SEGMENTS, 4, 3)).astype(np.float32)
    np.save(tmp_path / "features.npy", features)
    found = list(full_integer_settings(tmp_path / "features.npy", 2)["representative_dataset"]())
    assert len(found) == MAX_CALIBRATION_SEGMENTS
    for (row,), segment in ((found[0], features[0]), (found[-1], features[-1])):
        assert row.shape == (1, 4, 3, 2) and row.dtype == np.float32
        assert np.array_equal(row[0, ..., 0], segment) and np.array_equal(row[0, ..., 1], segment)
