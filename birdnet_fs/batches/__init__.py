"""Labeled clips -> augmented batches of features and targets.

`loader` makes the batches of an epoch, or few-shot episodes, from decoded clips (`data.waveforms`). `class_balance`
computes class weights for the loss and for sampling. `augment` holds the random changes of a training item.
"""
