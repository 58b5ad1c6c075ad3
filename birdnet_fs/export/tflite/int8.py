"""Converter settings for 8-bit networks: post-training quantization and quantization-aware training.

The scheme is Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", https://arxiv.org/abs/1712.05877, with a scale for each channel of a convolution's kernel (Krishnamoorthi
2018, https://arxiv.org/abs/1806.08342). Input and output stay float32: the first operator quantizes, the last
dequantizes.

The weights of a dense layer share one scale, because tflite-runtime 2.14.0 refuses to run a file with float activations
and a scale for each unit (`FULLY_CONNECTED version 12`).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MAX_CALIBRATION_SEGMENTS = 256  # ranges converge after some tens of segments


def dynamic_range_settings() -> dict[str, Any]:
    """Settings of a `tf.lite.TFLiteConverter`: weights in 8 bits, activations in float32."""
    import tensorflow as tf

    return {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "_experimental_disable_per_channel_quantization_for_dense_layers": True,
    }


def full_integer_settings(calibration: Path | None, n_channels: int) -> dict[str, Any]:
    """Settings of a `tf.lite.TFLiteConverter`: weights and activations in 8 bits.

    Args:
        calibration: `.npy` float32 [n, n_frames, n_mels], features of real segments that set the ranges of the
            activations. None for a network from quantization-aware training, which holds its own ranges.
        n_channels: Number of copies of the features that the network reads.

    Returns:
        Attributes of the converter.
    """
    if calibration is None:
        return dynamic_range_settings()
    features = np.load(calibration, mmap_mode="r", allow_pickle=False)

    def segments() -> Iterator[list[np.ndarray]]:
        for i in np.unique(np.linspace(0, len(features) - 1, MAX_CALIBRATION_SEGMENTS).round().astype(int)):
            yield [np.repeat(np.asarray(features[i], np.float32)[None, ..., None], n_channels, axis=-1)]

    return {**dynamic_range_settings(), "representative_dataset": segments}
