"""Search of settings with Optuna, on one machine or several.

space          the search space and what a trial is trained with
study          the folder of a study and its trials
worker         one process that trains trials; worker_pool: several of them
trial_summary  state and value of each trial
liveness       which processes still run
"""
