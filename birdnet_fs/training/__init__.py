"""Batches and a network in, a run folder out.

metrics        exact class-wise AUROC, average precision, F1, bootstrap
keras_metrics  the same AUROC as a Keras metric
run_folder     the only truth about a run: weights.safetensors, config.json, classes.txt, versions.json
schedule       learning rate per step
fit            the training loop (torch)
trainer        an experiment -> a run folder; cross-validation
"""
