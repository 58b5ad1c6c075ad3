"""Labeled clips in, augmented batches of features and targets out.

waveforms: every clip decoded once and kept in memory while there is room.
augmentation: the way of an item through random changes, drawn from (seed, epoch, index); draws: the generators and
what they did in words; crops, augment_waveform, filters, stretch, animal_spot, augment_features: the changes.
listeners: what teachers with another front-end hear; unlabeled: clips that runs labeled, in between and mixed in.
episodes: n-way k-shot episodes over labeled clips, support and query from different recordings. loader: clips ->
(features, targets) batches for training, or episodes.
"""
