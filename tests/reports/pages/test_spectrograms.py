"""Pictures of spectrograms: orientation and range of the colors."""

import base64
import io

import numpy as np
from PIL import Image

from birdnet_fs.reports.pages.spectrograms import spectrogram_png


def test_time_runs_to_the_right_and_frequency_upwards():
    features = np.zeros((3, 2))
    features[2, 1] = 1.0  # last frame, highest band
    features[0, 0] = 9.0  # above the range
    image = np.array(Image.open(io.BytesIO(base64.b64decode(spectrogram_png(features, 0.0, 1.0)))).convert("L"), int)
    assert image.shape == (2, 3)
    assert image[0, 2] == image[1, 0] == image.max() and image[0, 0] == image.min()
