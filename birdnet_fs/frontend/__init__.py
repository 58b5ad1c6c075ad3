"""Waveform -> log-mel features: one definition, three executions that agree.

`presets` is the table of front-ends, `definition` turns one into numbers and a list of steps (`pcen` is one of them),
and `in_numpy` (fast, and the reference; its loops are `kernels`), `in_keras` (inside a network, exportable with
`portable_fft`) and `in_tf` (`tf.data`) carry the steps out. A mismatch between training and device is this field's most
frequent silent fault, so no execution derives a number of its own.
"""

from birdnet_fs.frontend.presets import PRESETS, preset

__all__ = ["PRESETS", "preset"]
