"""Training: from an experiment to a run folder.

trainer           one run; prepare: checks, network, objective and validation
loop              epochs with validation; training_state: optimizer, averages and one step
objective         what is minimized; losses, cosine_losses: the losses by name
validation        metrics of the validation clips after each epoch
optimizer, schedule, finetuning, qat    how weights change: optimizers, rates, frozen blocks, 8 bits
distillation, pseudo_labels             training on the outputs of other runs
episodic/         training in episodes (few-shot)
callbacks         files written after each epoch; tracking/: TensorBoard and MLflow
"""
