"""Parts that several families share: residual branches with stochastic depth, LayerScale, torch's padding.

Sources: Huang et al. 2016, "Deep Networks with Stochastic Depth", https://arxiv.org/abs/1603.09382; Touvron et al.
2021, "Going deeper with Image Transformers", section 2.1 (LayerScale), https://arxiv.org/abs/2103.17239.
"""

from typing import Any

import keras
from keras import layers


@keras.saving.register_keras_serializable("birdnet_fs")
class LayerScale(layers.Layer):
    """A learned factor for each channel, at the end of a residual branch: [..., width] -> [..., width].

    Args:
        initial: Value of all factors at the start, small (1e-6 to 1e-4), so that a deep network starts as if shallow.
    """

    def __init__(self, initial: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial = initial

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.gamma = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(self.initial), name="gamma"
        )

    def call(self, x: Any) -> Any:
        return x * self.gamma

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial": self.initial}


def add_branch(x: keras.KerasTensor, branch: keras.KerasTensor, drop: float, name: str) -> keras.KerasTensor:
    """x + branch; in training the branch of a segment is left out with probability `drop`, else divided by 1 - drop.

    Args:
        x: The way past a block [batch, ...].
        branch: What the block computed, of the same shape.
        drop: Probability in [0, 1); published rules let it rise with the depth of the block.
        name: The block's name, which the two layers' names start with.
    """
    if drop > 0:
        alone = (None, *[1] * (len(x.shape) - 1))  # one draw for each segment
        branch = layers.Dropout(drop, noise_shape=alone, name=f"{name}_stochastic_depth")(branch)
    return layers.Add(name=f"{name}_add")([x, branch])


def padded_as_torch(x: keras.KerasTensor, kernel: int, stride: int, name: str) -> tuple[keras.KerasTensor, str]:
    """What a Keras convolution has to be given to compute torch's with padding=kernel // 2 (`kernel` odd).

    Torch puts as many zeros on every side; Keras' "same" does so only at stride 1, else its odd zero is at the end.

    Returns:
        (features to convolve, the `padding` of the Keras layer).
    """
    if stride == 1 or kernel == 1:
        return x, "same"
    return layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x), "valid"
