"""SpecAugment inside a network: stripes of time and of frequency are set to zero in training.

Source: Park et al. 2019, "SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
https://arxiv.org/abs/1904.08779, with the random law of PANNs (https://github.com/qiuqiangkong/torchlibrosa,
augmentation.py): after the normalization of the features, so that zero is the mean of a band.
"""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("birdnet_fs")
class SpecAugment(keras.layers.Layer):
    """Set random stripes of each sample to zero in training; the identity in inference.

    The width of a stripe is drawn from 0 .. drop_width - 1, then its start from 0 .. length - width - 1; stripes may
    overlap. The drop width is limited to a quarter of its axis (PANNs: 64 of 1001 frames, 8 of 64 bands), since two
    stripes of 64 frames would cover a segment of half a second. All channels of a sample have the same stripes.

    Args:
        time_drop_width: Upper bound (exclusive) of the width of a time stripe, in frames, 1 or more.
        n_time_stripes: Time stripes in each sample.
        mel_drop_width: Upper bound (exclusive) of the width of a frequency stripe, in mel bands, 1 or more.
        n_mel_stripes: Frequency stripes in each sample.
        **settings: Arguments of `keras.layers.Layer` (name, dtype).
    """

    def __init__(
        self,
        time_drop_width: int = 64,
        n_time_stripes: int = 2,
        mel_drop_width: int = 8,
        n_mel_stripes: int = 2,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.time_drop_width, self.n_time_stripes = time_drop_width, n_time_stripes
        self.mel_drop_width, self.n_mel_stripes = mel_drop_width, n_mel_stripes
        # torch's generator is seeded by the trainer; that of Keras would synchronize with the GPU in every step
        self.seed_generator = None if keras.backend.backend() == "torch" else keras.random.SeedGenerator()

    def call(self, x: Any, training: bool = False) -> Any:
        """[batch, n_frames, n_mels, n_channels] -> the same shape."""
        if not training:
            return x
        frames = ops.expand_dims(self._kept(x, 1, self.time_drop_width, self.n_time_stripes), (2, 3))
        bands = ops.expand_dims(self._kept(x, 2, self.mel_drop_width, self.n_mel_stripes), (1, 3))
        return x * ops.cast(ops.logical_and(frames, bands), x.dtype)

    def _kept(self, x: Any, axis: int, drop_width: int, n_stripes: int) -> Any:
        """Whether a cell of the axis is outside all stripes, bool [batch, length of the axis]."""
        length = x.shape[axis]
        draws = self._uniform((ops.shape(x)[0], 2, n_stripes, 1), x)
        width = ops.floor(draws[:, 0] * min(drop_width, max(1, length // 4)))
        start = ops.floor(draws[:, 1] * (length - width))
        cells = ops.arange(length, dtype="float32")
        return ops.all(ops.logical_or(cells < start, cells >= start + width), axis=1)

    def _uniform(self, shape: tuple[Any, ...], x: Any) -> Any:
        if self.seed_generator is not None:
            return keras.random.uniform(shape, seed=self.seed_generator, dtype="float32")
        import torch

        return torch.rand(shape, device=x.device)

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return super().get_config() | {
            "time_drop_width": self.time_drop_width,
            "n_time_stripes": self.n_time_stripes,
            "mel_drop_width": self.mel_drop_width,
            "n_mel_stripes": self.n_mel_stripes,
        }
