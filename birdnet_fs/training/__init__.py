"""Batches and a network in, a run folder out.

ranks: exact class-wise AUROC; metrics: average precision, F1, accuracy, bootstrap. keras_metrics: the same AUROC as a
Keras metric. run_folder: the only truth about a run; ensemble_folder: several runs that score as one. settled: the
settings as a run keeps them. partition: which clips train, validate, are held out; targets: their labels as numbers.
losses, schedule, fit: the training loop (torch). episodic: training in episodes,
few_shot_accuracy: embeddings and episodes -> accuracy of prototypes, SimpleShot and a linear probe, with intervals.
validation: numbers after every epoch; record: what is left while it runs (history, checkpoints, tracking: TensorBoard
and MLflow). teachers, distillation: learning from another run; pseudo: from unlabeled recordings;
activations: logits to probabilities and back; clip_scores: the score of a clip from those of its windows;
heard: what a run has heard, and those behind it.
trainer: an experiment -> a run folder. spaces, study, tuning, crew: many experiments with drawn settings, by several
processes; trial_summary: what came out of each; liveness: which processes still run.
"""
