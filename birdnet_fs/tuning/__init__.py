"""Search settings of an experiment with Optuna, on one machine or several."""
