"""Front-end, network and activation as one module, against the NumPy front-end."""

import numpy as np
import pytest
import tolerances
import torch
from onnx_files import sounds
from run_to_export import SPEC
from scipy.special import expit

from birdnet_fs.export.onnx.front_end_and_network import FrontEndAndNetwork
from birdnet_fs.frontend.in_numpy import log_mel, network_input


class Means(torch.nn.Module):
    """Two outputs of features [batch, n_frames, n_mels, n_channels]: means over the frames, and over the bands."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x[..., 0].mean(1), x[..., 0].mean(2)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return network_input(log_mel(sounds(4), SPEC), SPEC).astype(np.float32)


def test_without_a_network_the_output_is_the_features(features: np.ndarray) -> None:
    (found,) = FrontEndAndNetwork(None, SPEC)(torch.from_numpy(sounds(4)))
    assert found.shape == features.shape == (4, *SPEC.shape, SPEC.n_channels)
    assert np.abs(found.numpy() - features).max() <= tolerances.EXPORT_READER_FEATURES


@pytest.mark.parametrize("axes", ["time_first", "mel_first"])
def test_features_are_transposed_and_the_first_output_activated(features: np.ndarray, axes: str) -> None:
    given = features if axes == "time_first" else np.ascontiguousarray(features.swapaxes(1, 2))
    first, second = FrontEndAndNetwork(Means(), None, "sigmoid", axes)(torch.from_numpy(given))
    x = features[..., 0].astype(np.float64)
    assert np.abs(first.numpy() - expit(x.mean(1))).max() <= tolerances.ACTIVATION
    assert np.abs(second.numpy() - x.mean(2)).max() <= tolerances.BACKENDS * np.abs(x).max()
