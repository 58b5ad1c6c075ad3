"""A mel matrix that is trained with the network behind it.

Source: Cheuk, Anderson, Agres, Herremans 2020, "nnAudio: An on-the-fly GPU Audio to Spectrogram Conversion Toolbox",
IEEE Access, https://arxiv.org/abs/1912.12055 (trainable_mel), as in https://github.com/dsgt-birdclef/birdclef-2022.
The matrix starts as Slaney's. Without the logarithm it is used as it is, as published; with it, weights below 0 count
as 0, so that no energy is negative, and since that also holds for the zeros outside of the triangles, a band keeps its
range of frequencies: a weight there would let a loud sound of another range into a quiet band at once.
"""

from typing import Any

import keras
from keras import ops

from birdnet_fs.frontend.in_keras import full_precision
from birdnet_fs.frontend.matrices import mel_matrix

SAMPLE_RATE_HZ = 32_000  # of the published front-end, from 0 Hz to half of it
FLOOR = 1e-10  # of the energies before the logarithm, as `amin` of the front-end


@keras.saving.register_keras_serializable("birdnet_fs")
class TrainableMel(keras.layers.Layer):
    """Layer from power spectra [batch, n_frames, n_bins, 1] to band energies [batch, n_frames, n_mels, 1], in float32.

    Args:
        n_mels: Number of bands, 1 or more.
        log: Whether to take the natural logarithm of the energies, floored at FLOOR. Default: True.
        **settings: Arguments of `keras.layers.Layer` (name); dtype is overridden.
    """

    def __init__(self, n_mels: int, log: bool = True, **settings: Any) -> None:
        super().__init__(**{**settings, "dtype": "float32"})
        self.n_mels, self.log = n_mels, log

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the matrix [n_bins, n_mels]."""
        n_bins = int(input_shape[2] or 0)

        def slaney(shape: Any, dtype: Any = None) -> Any:
            matrix = mel_matrix(SAMPLE_RATE_HZ, 2 * (n_bins - 1), self.n_mels, 0.0, SAMPLE_RATE_HZ / 2)
            return ops.convert_to_tensor(matrix.T, dtype or "float32")

        self.kernel = self.add_weight(shape=(n_bins, self.n_mels), initializer=slaney, name="kernel")

    def call(self, power: Any) -> Any:
        """[batch, n_frames, n_bins, 1] -> [batch, n_frames, n_mels, 1]."""
        with full_precision(power):
            energies = ops.matmul(ops.squeeze(power, -1), ops.relu(self.kernel) if self.log else self.kernel)
            if self.log:
                energies = ops.log(ops.maximum(energies, FLOOR))
        return ops.expand_dims(energies, -1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """(batch, n_frames, n_mels, 1)."""
        return (*input_shape[:2], self.n_mels, 1)

    def get_config(self) -> dict[str, Any]:
        """Arguments to create the layer again."""
        return {**super().get_config(), "n_mels": self.n_mels, "log": self.log}
