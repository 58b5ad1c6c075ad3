"""Batches and a network in, a run folder out.

ranks, metrics: exact class-wise AUROC, average precision, F1, bootstrap. keras_metrics: the same AUROC as a Keras
metric. run_folder: the only truth about a run. partition: which clips train, validate, are held out. losses,
schedule, fit: the training loop (torch). trainer: an experiment -> a run folder.
"""
