"""Spectrograms as pictures inside a page."""

import base64
import io

import numpy as np

COLORS = "magma"


def spectrogram_png(features: np.ndarray, low: float, high: float) -> str:
    """Features as a PNG, low frequencies at the bottom.

    Args:
        features: float [n_frames, n_mels].
        low: Value of the darkest color.
        high: Value of the lightest color.

    Returns:
        The picture, n_frames wide and n_mels high, in base64.
    """
    import matplotlib
    from PIL import Image  # matplotlib needs it; a palette takes a quarter of the room that its own pictures do

    steps = np.clip((features.T[::-1] - low) * (255 / max(high - low, 1e-6)), 0, 255).astype(np.uint8)
    image = Image.fromarray(steps).convert("P")
    image.putpalette((matplotlib.colormaps[COLORS](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes())
    picture = io.BytesIO()
    image.save(picture, "PNG")
    return base64.b64encode(picture.getvalue()).decode()
