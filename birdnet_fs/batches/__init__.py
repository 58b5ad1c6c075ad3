"""Labelled clips in, augmented batches of features and targets out.

waveforms: every clip decoded once, kept in memory while there is room, and the windows that cover one.
augmentation: random changes to waveforms and features, drawn from (seed, epoch, index). loader: clips ->
(features, targets) batches for training.
"""
