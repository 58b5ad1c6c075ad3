"""Labelled clips in, augmented batches of features and targets out.

waveforms: every clip decoded once, kept in memory while there is room, and the windows that cover one.
augmentation: random changes to waveforms and features, drawn from (seed, epoch, index). episodes: n-way k-shot
episodes over labelled clips, support and query from different recordings. loader: clips -> (features, targets)
batches for training, or episodes.
"""
