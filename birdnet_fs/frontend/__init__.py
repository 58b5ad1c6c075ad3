"""Waveform -> log-mel features: one definition and three executions that agree.

`presets` is the table of front-ends. `definition` turns one of them into constants (`matrices`) and a list of steps
(`pcen` is one of them). `in_numpy` (fast with the compiled loops of `kernels` and `energy_kernel`, and a float64
reference), `in_keras` (inside a network; exportable with `portable_fft` and, to TFLite, `builtin_fft`) and `in_tf`
(`tf.data`) execute the steps. A mismatch between training and device is this field's most frequent silent error, so no
execution computes constants of its own.
"""

from typing import TYPE_CHECKING

from birdnet_fs.frontend.presets import PRESETS, preset
from birdnet_fs.schema import FrontEnd

if TYPE_CHECKING:
    import numpy as np

__all__ = ["PRESETS", "log_mel", "preset"]


def log_mel(waveform: "np.ndarray", spec: FrontEnd | str) -> "np.ndarray":
    """Log-mel features of a waveform, without a batch axis for one waveform.

    Args:
        waveform: float32 or float64 in +-1, or int16, [n_samples] or [batch, n_samples], at `spec.sample_rate_hz`.
        spec: The front-end, or the name of a preset.

    Returns:
        float32 [n_frames, n_mels] for [n_samples], [batch, n_frames, n_mels] for [batch, n_samples].

    Raises:
        UserError: The preset does not exist; the waveform has a wrong type or shape, holds NaN or infinite samples, or
            is too short for one frame.

    >>> import numpy as np
    >>> log_mel(np.zeros(160_000, np.float32), "panns").shape
    (501, 64)
    """
    import numpy as np

    from birdnet_fs.frontend import in_numpy

    features = in_numpy.log_mel(waveform, preset(spec) if isinstance(spec, str) else spec)
    return features[0] if np.ndim(waveform) == 1 else features
