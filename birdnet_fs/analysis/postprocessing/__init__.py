"""Post-processing of the scores of one recording: named steps, each from a stated source, and chains of them.

A step takes probabilities float32 [n_windows, n_classes] of the windows of one recording in order and gives such
probabilities. None is applied unless it is asked for (`analyze --post`) or stored with a calibration.
"""
