"""Statistics of a log-mel spectrogram as the features of a window: the baseline of every embedding.

For each of 64 bands from 50 Hz to 16 kHz: mean, standard deviation, 10 %, 50 % and 90 % quantile, and maximum over the
frames, in dB. The level of a recording is part of it.
"""

import hashlib

import numpy as np

from birdnet_fs.frontend import log_mel
from birdnet_fs.schema import FrontEnd

NAME = "logmel"
QUANTILES = (0.1, 0.5, 0.9)
N_STATISTICS = 3 + len(QUANTILES)
FRONT_END = FrontEnd(n_mels=64, fmin_hz=50.0, fmax_hz=16_000.0, top_db=0.0)


class LogMelStatistics:
    """Features of windows, with the attributes of `WindowFeatures`."""

    sample_rate_hz = FRONT_END.sample_rate_hz
    segment_s = FRONT_END.segment_s
    n_samples = FRONT_END.n_samples
    input_shape = (FRONT_END.n_mels * N_STATISTICS,)
    identity = hashlib.sha256(f"{NAME} 1 {QUANTILES} {FRONT_END}".encode()).hexdigest()

    def features(self, waveforms: np.ndarray) -> np.ndarray:
        """Compute the statistics of windows.

        Args:
            waveforms: float32 [n, n_samples] in ±1, at `sample_rate_hz`.

        Returns:
            float32 [n, 384]: the means of all bands, then their standard deviations, quantiles and maxima.
        """
        x = log_mel(waveforms, FRONT_END)
        quantiles = np.quantile(x, QUANTILES, axis=1)
        return np.concatenate([x.mean(1), x.std(1), *quantiles, x.max(1)], axis=1).astype(np.float32)
