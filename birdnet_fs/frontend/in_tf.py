"""Log-mel features as a tensorflow graph, for `tf.data` pipelines: `dataset.map(lambda x: log_mel(x, spec))`.

The steps after the band energies are those of `definition`, called with tensorflow's functions. The FFT is in float64,
since rounding errors of a loud band in float32 would show in quiet bands.
"""

from types import SimpleNamespace
from typing import Any

import tensorflow as tf

from birdnet_fs.core.errors import UserError
from birdnet_fs.frontend.definition import apply_steps, clip_frames, define
from birdnet_fs.schema import FrontEnd


def _matmul(a: Any, b: Any) -> Any:
    """Product of a matrix and a batch, in either order; tf.matmul would copy the matrix for each segment."""
    if len(a.shape) == len(b.shape) == 2:
        return tf.matmul(a, b)
    return tf.einsum("ij,bjk->bik", a, b) if len(a.shape) == 2 else tf.einsum("bij,jk->bik", a, b)


_OPS = SimpleNamespace(
    abs=tf.abs,
    not_equal=tf.not_equal,
    greater_equal=tf.greater_equal,
    log=tf.math.log,
    exp=tf.exp,
    maximum=tf.maximum,
    multiply=tf.multiply,
    max=tf.reduce_max,
    min=tf.reduce_min,
    mean=tf.reduce_mean,
    sqrt=tf.sqrt,
    where=tf.where,
    clip=tf.clip_by_value,
    pad=tf.pad,
    matmul=_matmul,
    reshape=tf.reshape,
    transpose=tf.transpose,
)


def log_mel(waveform: Any, spec: FrontEnd) -> Any:
    """Log-mel features as a tensor.

    Args:
        waveform: Floats in +-1, [batch, n_samples] or [n_samples], at `spec.sample_rate_hz`. Where n_samples is
            unknown in the graph, it must be `spec.n_samples`.
        spec: The front-end.

    Returns:
        float32 [batch, n_frames, n_mels]; NaN in a segment gives NaN in that segment's features.

    Raises:
        UserError: The waveform has a wrong shape or is too short for one frame.
    """
    x = tf.convert_to_tensor(waveform)
    if x.shape.rank not in (1, 2):
        raise UserError(f"A waveform must be [batch, n_samples] or [n_samples]. Received shape: {x.shape}")
    definition = define(spec, x.shape[-1] or spec.n_samples)
    x = tf.reshape(tf.cast(x, tf.float64), [-1, definition.n_samples])
    own = clip_frames(x, definition, _OPS)
    if spec.preemphasis:
        x = tf.concat([x[:, :1], x[:, 1:] - spec.preemphasis * x[:, :-1]], axis=1)
    if definition.pad:
        x = tf.pad(x, [[0, 0], [definition.pad, definition.pad]], mode=spec.pad_mode)
    frames = tf.signal.frame(x, spec.n_fft, spec.hop_length)
    spectrum = tf.signal.rfft(frames * definition.window, [spec.n_fft])
    low, high = definition.bins
    spectrum = spectrum[:, :, low:high]
    power = tf.square(tf.math.real(spectrum)) + tf.square(tf.math.imag(spectrum))
    energies = tf.cast(power, tf.float32)
    if spec.bands != "spectrum":
        energies = _matmul(energies, definition.bands[:, low:high].T.astype("float32"))
    return apply_steps(energies, definition, _OPS, own=own)
