"""The FFT of TFLite front-ends: the builtin operator RFFT2D, which BirdNET's own files use on every host.

The operator computes in float64 and rounds each bin to float32, so that a loud bin does not blur the quiet ones: the
features differ from float64 by the rounding of the windowed samples alone. Front-ends that keep bands of any level
(`Definition.needs_extra_precision`) transform the samples in two parts (portable_fft.py), which removes that too. The
length of a frame must be a power of 2. `convert.py` writes the operator where it can; other lengths, ONNX and runtimes
without the operator use the matrix products of portable_fft.py.
"""

from typing import Any

import numpy as np
from keras import ops

from birdnet_fs.frontend.definition import Definition
from birdnet_fs.frontend.portable_fft import windowed_frames, windowed_frames_in_parts
from birdnet_fs.schema import FrontEnd


def has_builtin_fft(spec: FrontEnd) -> bool:
    """Whether the operator transforms frames of a front-end: n_fft is a power of 2."""
    return spec.n_fft & (spec.n_fft - 1) == 0


def band_energies(waveform: Any, definition: Definition) -> Any:
    """Band energies by the backend's float32 FFT, which the TFLite converter writes as RFFT2D.

    Args:
        waveform: float32 tensor [batch, n_samples].
        definition: The front-end for n_samples.

    Returns:
        float32 tensor [batch, n_frames, n_mels].
    """
    low, high = definition.bins
    scale = 1.0
    if definition.needs_extra_precision:
        (coarse, rest), _, scale = windowed_frames_in_parts(waveform, definition)
        (re, im), (re_rest, im_rest) = ops.rfft(coarse), ops.rfft(rest)
        re, im = re + re_rest, im + im_rest
    else:
        re, im = ops.rfft(windowed_frames(waveform, definition))
    power = (re * re + im * im)[:, low:high]
    if definition.spec.bands == "spectrum":
        energies = ops.multiply(power, scale**2)
    else:
        energies = ops.matmul(power, (definition.bands[:, low:high].T * scale**2).astype(np.float32))
    return ops.reshape(energies, (-1, definition.n_frames, definition.spec.n_mels))
